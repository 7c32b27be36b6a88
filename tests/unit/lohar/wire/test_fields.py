import enum
import math
from typing import Any

import pytest

from lohar.wire.fields import (
    MISSING,
    Field,
    MessageError,
    blob,
    choice,
    flag,
    items,
    mapping,
    nested,
    number,
    real,
    text,
    wrong,
)
from lohar.wire.records import Record


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Record):
    size: int = number(minimum=1)


def accepted(field: Field, value: object) -> object:
    """Load a value as if it came from JSON, and check that it may then be kept and dumped again."""
    loaded = field.load("f", value)
    assert field.check("f", loaded) == loaded
    dumped = loaded if field.dump is None else field.dump(loaded)
    assert field.load("f", dumped) == loaded
    return loaded


GOOD: list[tuple[str, Field, Any, Any]] = [
    ("text", text(), "caf\u00e9", "caf\u00e9"),
    ("text that is an undecodable file name", text(), "bad\udcff", "bad\udcff"),
    ("text with NUL where allowed", text(nul=True), "a\0b", "a\0b"),
    ("text at its limit", text(maximum=3), "abc", "abc"),
    ("number", number(), -5, -5),
    ("number at its bounds", number(minimum=0, maximum=65535), 65535, 65535),
    ("real from a whole number", real(), 2, 2.0),
    ("real", real(), 0.5, 0.5),
    ("flag", flag(default=False), True, True),
    ("choice", choice(Colour), "blue", Colour.BLUE),
    ("blob", blob(minimum=1), "AP8=", b"\x00\xff"),
    ("items", items(text()), ["a", "b"], ("a", "b")),
    ("items of blobs", items(blob()), ["AA=="], (b"\0",)),
    ("mapping", mapping(text()), {"A": "1"}, {"A": "1"}),
    ("mapping of blobs", mapping(blob()), {"A": "AA=="}, {"A": b"\0"}),
    ("nested", nested(Inner), {"size": 3}, Inner(size=3)),
]


@pytest.mark.parametrize(("field", "value", "loaded"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_value_is_accepted_and_comes_back(field: Field, value: object, loaded: object) -> None:
    assert accepted(field, value) == loaded


BAD: list[tuple[str, Field, Any, str]] = [
    ("text from a number", text(), 3, "f: expected text, got 3"),
    ("text with NUL", text(), "a\0b", "f: expected text without NUL"),
    ("text with half a surrogate pair", text(), "\ud800", "f: expected text without lone surrogates"),
    ("text above its limit", text(maximum=3), "abcd", "f: expected at most 3 characters, got 'abcd'"),
    ("number from a truth value", number(), True, "f: expected a whole number, got True"),
    ("number from a fraction", number(), 1.0, "f: expected a whole number, got 1.0"),
    ("number below", number(minimum=0), -1, "f: expected a number from 0 to"),
    ("number above", number(maximum=65535), 65536, "to 65535, got 65536"),
    ("number beyond 64 bits", number(), 1 << 63, "f: expected a number"),
    ("real from text", real(), "1", "f: expected a number from 0 to"),
    ("real from a truth value", real(), True, "f: expected a number"),
    ("real that is not a number", real(), math.nan, "f: expected a number"),
    ("real below", real(), -0.5, "f: expected a number from 0 to"),
    ("flag from a number", flag(default=False), 1, "f: expected true or false, got 1"),
    ("choice of something else", choice(Colour), "green", "f: expected one of red, blue, got 'green'"),
    ("choice from a list", choice(Colour), [], "f: expected one of red, blue"),
    ("blob that is not base64", blob(), "!!", "f: expected base64 text, got '!!'"),
    ("blob that is not ASCII", blob(), "\u00e9", "f: expected base64 text"),
    ("blob from a number", blob(), 3, "f: expected base64 text, got 3"),
    ("blob that is too short", blob(minimum=3), "AA==", "f: expected 3 to 1048576 bytes"),
    ("items from text", items(text()), "ab", "f: expected a list, got 'ab'"),
    ("a wrong item", items(text()), ["a", 1], r"f\[1\]: expected text, got 1"),
    ("mapping from a list", mapping(text()), [], "f: expected an object, got"),
    ("a wrong value in a mapping", mapping(text()), {"A": None}, r"f\[A\]: expected text, got None"),
    ("an empty key", mapping(text()), {"": "1"}, "f: an empty key"),
    ("a key with NUL", mapping(text()), {"a\0": "1"}, "f: expected text without NUL"),
    ("a wrong field in a nested record", nested(Inner), {"size": 0}, r"f\.size: expected a number from 1"),
    ("a nested record that is none", nested(Inner), 3, "f: expected an object, got 3"),
]


@pytest.mark.parametrize(("field", "value", "problem"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_value_is_refused_with_a_sentence_that_names_the_field(field: Field, value: object, problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        field.load("f", value)


def test_values_made_by_hand_are_checked_too() -> None:
    with pytest.raises(MessageError, match="expected 0 to 1048576 bytes"):
        blob().check("f", "text")
    with pytest.raises(MessageError, match="expected Inner"):
        nested(Inner).check("f", {"size": 3})


def test_a_long_value_is_shortened_in_the_error() -> None:
    message = str(wrong("f", "less", "x" * 1000))
    assert len(message) < 100
    assert message.endswith("...")


def test_a_field_without_default_is_always_sent() -> None:
    assert text().always
    assert text().default is MISSING
    assert not text(default="").always
    assert text(default="", always=True).always


def test_an_error_seen_from_outside_keeps_its_path() -> None:
    inner = MessageError("size", "too big")
    assert str(inner.inside("files[/etc/motd]")) == "files[/etc/motd].size: too big"
    assert str(MessageError("", "not an object").inside("identity")) == "identity: not an object"
    assert inner.field == "size"


def test_subclasses_of_text_become_plain_text() -> None:
    class Shouted(str):
        __slots__ = ()

    assert type(text().check("f", Shouted("x"))) is str
