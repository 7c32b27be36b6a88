import dataclasses

from bhatti.guestlink.deadlines import DEADLINES, Deadlines


def test_every_wait_has_an_end() -> None:
    assert all(value > 0 for value in dataclasses.asdict(DEADLINES).values())


def test_a_slow_answer_is_given_more_time_than_a_quick_one() -> None:
    assert DEADLINES.connect_s < DEADLINES.reply_s < DEADLINES.stall_s < DEADLINES.sync_s


def test_one_can_be_changed_by_itself() -> None:
    assert Deadlines(reply_s=1.0).connect_s == DEADLINES.connect_s
