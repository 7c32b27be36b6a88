import json

import pytest

from bhatti.cli.answers import answer, listed, removed
from bhatti.errors import Conflict, NotFound

THINGS = {"a": "free", "b": "free", "used": "in use"}


def remove(name: str) -> str:
    if name not in THINGS:
        raise NotFound(f"there is no {name}", code="no-such-thing")
    if THINGS[name] != "free":
        raise Conflict(f"{name} is {THINGS[name]}", code="thing-in-use")
    return "gone"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"as_json": True}, '{"a":"free","b":"free","used":"in use"}\n'),
        ({"as_json": False}, "three things\n"),
        ({"as_json": False, "quiet": True}, ""),
    ],
)
def test_one_answer_is_json_or_a_line_or_nothing(
    flags: dict[str, bool], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer(THINGS, "three things", **flags)
    assert capfd.readouterr().out == expected


def test_a_list_is_json_or_names_or_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    found, headings = ["a", "used"], ("NAME", "STATUS")
    listed(found, headings, lambda name: (name, THINGS[name]), as_json=True, names=str)
    listed(found, headings, lambda name: (name, THINGS[name]), as_json=False, names=str)
    listed(found, headings, lambda name: (name, THINGS[name]), as_json=False)
    assert capfd.readouterr().out == '["a","used"]\na\nused\nNAME  STATUS\na     free\nused  in use\n'


def test_one_that_is_removed_is_told_in_one_word(capfd: pytest.CaptureFixture[str]) -> None:
    removed(["a"], remove, "removed", as_json=False, quiet=False)
    assert capfd.readouterr().out == "removed\n"
    removed(["a"], remove, "removed", as_json=False, quiet=True)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("force", [False, True])
def test_one_that_fails_does_not_keep_the_others_from_going(force: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Conflict if force else NotFound):
        removed(["nobody", "a", "used", "b"], remove, "removed", force=force, as_json=False, quiet=False)
    assert capfd.readouterr().out == "a: removed\nb: removed\n"


@pytest.mark.parametrize(("force", "absent"), [(False, "no-such-thing"), (True, "absent")])
def test_json_tells_what_became_of_each(force: bool, absent: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Conflict if force else NotFound):
        removed(["nobody", "a", "used"], remove, "removed", force=force, as_json=True, quiet=False)
    told = json.loads(capfd.readouterr().out)
    assert told == {"nobody": absent, "a": "gone", "used": "thing-in-use"}


def test_what_is_not_there_is_no_failure_to_who_does_not_mind(capfd: pytest.CaptureFixture[str]) -> None:
    removed(["nobody"], remove, "removed", force=True, as_json=False, quiet=False)
    assert capfd.readouterr().out == ""
