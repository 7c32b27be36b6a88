import msgspec
import pytest
from msgspec import UNSET

from bhatti.model.user import Caps
from bhatti.operations.documents.users import UserCreate, UserUpdate


def test_caps_that_are_not_given_are_the_usual_ones() -> None:
    request = msgspec.json.decode(b'{"name": "anna", "max_cpus": 3, "max_images": null}', type=UserCreate)
    assert request.caps() == Caps(max_cpus=3, max_images=None)


def test_a_change_leaves_alone_what_it_does_not_name() -> None:
    before = Caps(max_sandboxes=9, max_cpus=None)
    assert UserUpdate().caps(before) == before
    assert UserUpdate(max_sandboxes=0).caps(before) == Caps(max_sandboxes=0, max_cpus=None)


def test_what_is_not_given_is_not_sent() -> None:
    assert UserUpdate().max_cpus is UNSET
    assert msgspec.json.encode(UserUpdate(max_cpus=None)) == b'{"max_cpus":null}'


@pytest.mark.parametrize("document", [b"{}", b'{"name": "a", "max_cpus": -1}', b'{"name": "a", "max_cpus": "4"}'])
def test_a_user_has_a_name_and_caps_are_numbers(document: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=UserCreate)


def test_every_cap_can_be_given() -> None:
    assert set(Caps.__struct_fields__) == set(UserCreate.__struct_fields__) - {"name"}
