import ast
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bhatti import errors
from bhatti.errors import BhattiError, Busy, Conflict, EngineFailure, ErrorBody, NotFound, from_body

SOURCES = Path(errors.__file__).parent


def test_what_was_given_is_shown_in_messages_up_to_a_length() -> None:
    assert errors.shortened("x" * 80) == "x" * 80
    assert errors.shortened("x" * 81) == "x" * 77 + "..."


def all_classes(cls: type[BhattiError] = BhattiError) -> list[type[BhattiError]]:
    # Some modules tell cases of their own apart by a subclass; to callers those are what their parents are.
    children = (child for child in cls.__subclasses__() if child.__module__ == errors.__name__)
    return [cls, *(found for child in children for found in all_classes(child))]


def test_the_tree_stays_small_and_is_drawn_in_the_docstring() -> None:
    classes = all_classes()
    assert len(classes) <= 15
    assert errors.__doc__ is not None
    for cls in classes:
        assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize("cls", all_classes())
def test_every_class_has_a_code_a_status_and_an_exit_code(cls: type[BhattiError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)
    assert 400 <= cls.http_status <= 599
    assert 1 <= cls.exit_code <= 125, "126 and above mean something to shells"


@pytest.mark.parametrize("cls", all_classes())
def test_the_docstring_table_tells_the_truth(cls: type[BhattiError]) -> None:
    if cls is BhattiError:
        return
    row = re.search(rf"{cls.__name__}\s+(\d+)\s+exit\s+(\d+)", errors.__doc__ or "")
    assert row is not None
    assert (int(row[1]), int(row[2])) == (cls.http_status, cls.exit_code)


def test_codes_are_unique_and_all_known() -> None:
    classes = [cls for cls in all_classes() if cls is not BhattiError]
    assert {cls.code: cls for cls in classes} == errors.CLASSES_BY_CODE


@pytest.mark.parametrize("cls", [cls for cls in all_classes() if cls is not BhattiError])
def test_an_error_survives_the_way_through_the_api(cls: type[BhattiError]) -> None:
    sent = cls("what went wrong", hint="do that")
    received = from_body(cls.http_status, msgspec.json.decode(msgspec.json.encode(sent.body("req_1")), type=ErrorBody))
    assert type(received) is cls
    assert (received.message, received.hint, received.code) == ("what went wrong", "do that", cls.code)


def test_a_narrower_code_keeps_the_class_of_its_status() -> None:
    received = from_body(404, NotFound("no sandbox 'x'", code="sandbox-not-found").body())
    assert type(received) is NotFound
    assert received.code == "sandbox-not-found"


def test_an_unknown_status_becomes_the_root_class() -> None:
    assert type(from_body(418, ErrorBody(error="teapot", code="teapot"))) is BhattiError


def test_busy_is_a_conflict_that_can_be_told_apart() -> None:
    assert issubclass(Busy, Conflict)
    assert Busy.http_status == Conflict.http_status
    assert Busy.exit_code != Conflict.exit_code


def test_absent_parts_are_absent_from_the_body() -> None:
    assert msgspec.json.encode(Conflict("taken").body()) == b'{"error":"taken","code":"conflict"}'


def test_what_usually_helps_is_told_where_nothing_better_is_known() -> None:
    assert EngineFailure("died").body().hint == EngineFailure.usual_hint
    assert EngineFailure("died", hint="look").body().hint == "look"


NAMES = {cls.__name__: cls for cls in all_classes()}


def errors_made(path: Path) -> Iterator[tuple[int, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield node.lineno, node


def test_every_error_says_what_to_do_next() -> None:
    made = [(path, *found) for path in SOURCES.rglob("*.py") for found in errors_made(path)]
    assert len(made) > 300
    silent = [
        f"{path.relative_to(SOURCES)}:{line}: {ast.unparse(call)[:100]}"
        for path, line, call in made
        if NAMES[ast.unparse(call.func)].usual_hint is None
        and not any(keyword.arg in ("hint", None) for keyword in call.keywords)
    ]
    assert silent == []


def test_a_traceback_shows_the_hint() -> None:
    shown = traceback.format_exception_only(NotFound("there is no 'x'", hint="look for it"))
    assert "".join(shown).endswith("there is no 'x'\nhint: look for it\n")
