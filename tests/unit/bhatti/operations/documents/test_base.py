import msgspec
import pytest

from bhatti.errors import MissingDependency
from bhatti.operations.documents.base import Event, Port, Request


class Shape(Request, frozen=True, kw_only=True):
    memory: int = 1


def test_requests_name_the_field_they_do_not_know() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `memroy`"):
        msgspec.json.decode(b'{"memroy": 1}', type=Shape)


@pytest.mark.parametrize("bad", [0, 65_536, -1])
def test_a_port_is_in_its_bounds(bad: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Port)


def test_an_event_of_an_error_says_all_that_the_error_says() -> None:
    event = Event.of(MissingDependency("no qemu", hint="apt install it", code="qemu-missing"))
    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        "type": "error",
        "error": "no qemu",
        "code": "qemu-missing",
        "hint": "apt install it",
        "kind": "missing-dependency",
    }
