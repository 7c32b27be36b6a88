import subprocess
import sys
from collections.abc import Mapping

import pytest

from lohar.wire.fields import MessageError, blob, flag, items, mapping, nested, number, text
from lohar.wire.records import Record, decode_json, decode_list, encode_json, encode_list


class Point(Record):
    x: int = number()
    label: str = text(default="")
    shown: bool = flag(default=False, always=True)


class Shape(Record):
    points: tuple[Point, ...] = items(nested(Point), default=())
    centre: Point | None = nested(Point, default=None)
    tags: Mapping[str, str] = mapping(text(), default={})
    raw: bytes = blob(default=b"")


def test_a_record_is_a_frozen_value_with_slots() -> None:
    point = Point(x=1)
    assert point == Point(x=1, label="", shown=False)
    assert point != Point(x=2)
    assert point != "point"
    assert hash(point) == hash(Point(x=1))
    assert repr(point) == "Point(x=1, label='', shown=False)"
    assert not hasattr(point, "__dict__")
    with pytest.raises(AttributeError, match=r"use replace\(x=\.\.\.\)"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot be changed"):
        del point.x


def test_replace_makes_a_changed_copy() -> None:
    point = Point(x=1, label="a")
    assert point.replace(x=5) == Point(x=5, label="a")
    assert point.x == 1


def test_a_record_made_by_hand_is_checked() -> None:
    with pytest.raises(MessageError, match="x: expected a whole number, got 'one'"):
        Point(x="one")  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="x: missing"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Point has no field y"):
        Point(x=1, y=2, z=3)  # type: ignore[call-arg]


def test_unset_optional_fields_are_absent_from_json_and_the_others_are_not() -> None:
    assert Point(x=0).to_json() == b'{"x":0,"shown":false}'
    assert Point(x=0, label="a", shown=True).to_json() == b'{"x":0,"label":"a","shown":true}'


def test_records_nest() -> None:
    shape = Shape(points=(Point(x=1), Point(x=2)), centre=Point(x=3), tags={"a": "b"}, raw=b"\0")
    assert Shape.from_json(shape.to_json()) == shape
    assert Shape().to_json() == b"{}"


def test_an_error_deep_inside_names_its_path() -> None:
    with pytest.raises(MessageError, match=r"points\[1\]\.x: expected a whole number, got 'b'") as caught:
        Shape.from_json(b'{"points":[{"x":1},{"x":"b"}]}')
    assert caught.value.field == "points[1].x"


def test_unknown_keys_are_ignored() -> None:
    assert Point.from_json(b'{"x":1,"colour":[1,{"deep":null}]}') == Point(x=1)


@pytest.mark.parametrize("key", ["X", "x"])
def test_keys_match_without_regard_to_case(key: str) -> None:
    assert Point.from_json(encode_json({key: 1, "LABEL": "a", "Shown": True})) == Point(x=1, label="a", shown=True)


def test_null_means_unset() -> None:
    assert Point.from_json(b'{"x":1,"label":null}') == Point(x=1)
    with pytest.raises(MessageError, match="x: missing"):
        Point.from_json(b'{"x":null}')


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b'{"x":1}}', b"\xff\xfe", b'{"x":NaN}', b'{"x":Infinity}', b'{"x":' + b"9" * 5000 + b"}"],
    ids=["nothing", "half", "more", "not UTF-8", "NaN", "Infinity", "5000 digits"],
)
def test_what_is_no_json_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError, match="not JSON"):
        Point.from_json(payload)


@pytest.mark.parametrize("payload", [b"[]", b"3", b"null", b'"x"', b"true"])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError, match="expected an object"):
        Point.from_json(payload)


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
def test_a_mebibyte_of_nesting_is_refused_and_does_not_crash(opener: bytes) -> None:
    with pytest.raises(MessageError, match="nested too deeply"):
        decode_json(opener * ((1 << 20) // len(opener)))


def test_any_buffer_can_be_decoded() -> None:
    payload = b'{"x":1}'
    assert Point.from_json(memoryview(payload)) == Point.from_json(bytearray(payload)) == Point(x=1)


def test_json_is_ascii_so_that_undecodable_file_names_survive() -> None:
    point = Point(x=1, label="caf\u00e9\udcff")
    assert point.to_json().isascii()
    assert Point.from_json(point.to_json()) == point


def test_lists_of_records() -> None:
    points = [Point(x=1), Point(x=2, label="b")]
    assert decode_list(Point, encode_list(points)) == points
    assert encode_list([]) == b"[]"
    assert decode_list(Point, b"null") == [], "the reference agent's way to write an empty list"


@pytest.mark.parametrize(("payload", "problem"), [(b"{}", "expected a list"), (b'[{"x":1},3]', r"\[1\]: expected an")])
def test_a_wrong_list_is_refused(payload: bytes, problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        decode_list(Point, payload)


def test_importing_the_wire_brings_nothing_heavy_along() -> None:
    # The agent has 14 MB and 150 ms to start in; these modules cost 45 ms and 2.4 MB.
    program = "import sys, lohar.wire.frames, lohar.wire.messages; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "lohar.wire.messages" in done.stdout.split()
    assert not {"dataclasses", "inspect", "typing", "asyncio", "socket", "logging"} & set(done.stdout.split())
