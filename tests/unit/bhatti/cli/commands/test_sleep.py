import json
from collections.abc import Iterator

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.fixture
def sleeper(bhatti: Bhatti) -> Iterator[str]:
    """A sandbox with a label, gone afterwards whatever it is called by then."""
    made = bhatti("create", "sleeper", "--label", "team=red", "--warm-after", "never", "--cold-after", "90", "-q")
    assert made.code == 0
    yield "sleeper"
    bhatti("rm", "-f", made.out.strip(), "-q")


def test_what_was_asked_for_is_shown(bhatti: Bhatti, sleeper: str) -> None:
    shown = bhatti("inspect", sleeper, "--json").json()
    assert (shown["labels"], shown["warm_after_s"], shown["cold_after_s"]) == ({"team": "red"}, 0, 90)
    assert (shown["keep_hot"], shown["thermal"]) == (False, "hot")
    assert "team=red" in bhatti("inspect", sleeper).out
    assert "cold in" in bhatti("inspect", sleeper).out


def test_it_is_changed_by_edit(bhatti: Bhatti, sleeper: str) -> None:
    done = bhatti("edit", sleeper, "--name", "other", "--label", "a=b", "--unlabel", "team", "--keep-hot")
    assert (done.code, done.out) == (0, "other: kept hot: keep_hot is set\n")
    shown = bhatti("edit", "other", "--no-keep-hot", "--cold-after", "default", "--json").json()
    assert (shown["name"], shown["labels"], shown["keep_hot"]) == ("other", {"a": "b"}, False)
    assert (shown["warm_after_s"], shown["cold_after_s"]) == (0, None)


def test_it_is_paused_and_resumed(bhatti: Bhatti, sleeper: str) -> None:
    assert bhatti("pause", sleeper).out == "paused\n"
    assert bhatti("inspect", sleeper, "--json").json()["thermal"] == "warm"
    assert bhatti("resume", sleeper).out == "resumed\n"
    assert bhatti("pause", sleeper, "--json").json()["thermal_reason"].endswith("(paused: on request)")
    assert bhatti("exec", "-n", sleeper, "--", "echo", "awake").out == "awake\n"
    assert bhatti("resume", sleeper, "--json").json()["thermal"] == "hot"


def test_a_list_by_label(bhatti: Bhatti, sleeper: str) -> None:
    assert [found["name"] for found in bhatti("ls", "--label", "team=red", "--json").json()] == [sleeper]
    assert bhatti("ls", "--label", "team=blue", "-q").out == ""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["edit", "sleeper"], 2, "nothing-to-change"),
        (["edit", "sleeper", "--warm-after", "soon"], 2, "bad-idle-time"),
        (["edit", "sleeper", "--warm-after", "-3"], 2, "bad-idle-time"),
        (["edit", "sleeper", "--cold-after", "inf"], 2, "bad-idle-time"),
        (["edit", "sleeper", "--cold-after", "1e99"], 2, "invalid-field"),
        (["edit", "sleeper", "--label", "x"], 2, "bad-label"),
        (["edit", "sleeper", "--label", "bhatti.sh/x=y"], 2, "bad-label"),
        (["edit", "sleeper", "--name", "one"], 5, "name-taken"),
        (["edit", "nobody", "--keep-hot"], 4, "sandbox-not-found"),
        (["pause", "nobody"], 4, "sandbox-not-found"),
        (["resume", "nobody"], 4, "sandbox-not-found"),
        (["create", "two", "--label", "bhatti.sh/x=y"], 2, "bad-label"),
    ],
)
def test_what_cannot_be_is_told_with_a_code(
    bhatti: Bhatti, sleeper: str, arguments: list[str], exit_code: int, code: str
) -> None:
    done = bhatti(*arguments, "--json")
    assert (done.code, json.loads(done.err.splitlines()[-1])["code"]) == (exit_code, code)
