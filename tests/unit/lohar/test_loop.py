import os
from collections.abc import Iterator

import pytest

from lohar.loop import SWEEP_AT, Loop
from lohar.poller import READ


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_callback_runs_when_its_descriptor_is_ready(loop: Loop, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    loop.register(pipe[0], READ, seen.append)
    loop.turn(0)
    assert seen == []
    os.write(pipe[1], b"x")
    loop.turn(1)
    assert seen == [READ]
    loop.unregister(pipe[0])
    loop.unregister(pipe[0])
    loop.turn(0)
    assert seen == [READ]


def test_timers_run_in_order_and_not_before_their_time(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0.02, lambda: seen.append("second"))
    loop.call_later(0.01, lambda: seen.append("first"))
    loop.turn(0)
    assert seen == []
    loop.call_later(0.03, loop.stop)
    loop.run()
    assert seen == ["first", "second"]


def test_a_cancelled_timer_does_not_run(loop: Loop) -> None:
    seen: list[str] = []
    timer = loop.call_later(0.0, lambda: seen.append("no"))
    timer.cancel()
    timer.cancel()
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert seen == []


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    for _ in range(10 * SWEEP_AT):
        loop.call_later(3600, lambda: None).cancel()
    assert len(loop._timers) <= 2 * SWEEP_AT


def test_what_is_to_run_soon_runs_once_a_generation(loop: Loop) -> None:
    seen: list[int] = []

    def again() -> None:
        seen.append(len(seen))
        if len(seen) < 3:
            loop.call_soon(again)

    loop.call_soon(again)
    loop.turn(None)
    assert seen == [0], "what asks to be called again waits for the next turn"
    loop.turn(None)
    loop.turn(None)
    assert seen == [0, 1, 2]


def test_a_callback_that_fails_ends_alone(
    loop: Loop, pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    os.write(pipe[1], b"x")
    loop.register(pipe[0], READ, broken)
    loop.call_later(0, broken)
    loop.call_soon(broken)
    loop.call_soon(lambda: seen.append("lives on"))
    loop.turn(0)
    assert seen == ["lives on"]
    assert capsys.readouterr().err.count("RuntimeError: broken on purpose") == 3


def test_an_event_of_a_closed_descriptor_is_not_given_to_the_one_that_got_its_number(loop: Loop) -> None:
    first, second = os.pipe(), os.pipe()
    os.write(first[1], b"x")
    os.write(second[1], b"x")
    seen: list[str] = []

    def replace(_mask: int) -> None:
        # Whichever of the two comes first closes the other's end and takes its number for a pipe with nothing in it.
        seen.append("first of the turn")
        for fd in (first[0], second[0]):
            loop.unregister(fd)
        fresh = os.pipe()
        os.dup2(fresh[0], first[0])
        os.dup2(fresh[0], second[0])
        for fd in (first[0], second[0]):
            loop.register(fd, READ, lambda _: seen.append("wrong"))
        os.close(fresh[0])
        fds.append(fresh[1])

    fds: list[int] = [*first, *second]
    loop.register(first[0], READ, replace)
    loop.register(second[0], READ, replace)
    loop.turn(1)
    assert seen == ["first of the turn"]
    for fd in fds:
        os.close(fd)
