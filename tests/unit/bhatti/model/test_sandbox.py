import msgspec
import pytest

from bhatti.errors import InvalidRequest
from bhatti.model.sandbox import GuestFile, SandboxSpec, checked_name


@pytest.mark.parametrize("name", ["a", "0", "agent-1", "a.b_c-d", "A" * 63])
def test_good_names_are_returned_unchanged(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "a/b", "-a", ".a", "_a", "ä", "a" * 64, "a\0", "a" * 10_000])
def test_bad_names_are_refused_with_a_hint_and_without_flooding_the_terminal(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_name(name)
    assert caught.value.code == "bad-name"
    assert caught.value.hint is not None
    assert len(caught.value.message) < 200


def test_a_spec_survives_json() -> None:
    spec = SandboxSpec(
        id="0123456789abcdef",
        name="agent-1",
        image="base",
        cpus=2,
        memory_mib=512,
        disk_mib=1024,
        token="t",
        files=(GuestFile(path="/x", content=b"\x00\xff"),),
    )
    assert msgspec.json.decode(msgspec.json.encode(spec), type=SandboxSpec) == spec


@pytest.mark.parametrize(("field", "value"), [("cpus", 0), ("memory_mib", 127), ("disk_mib", 0)])
def test_a_spec_from_outside_is_bounded(field: str, value: int) -> None:
    raw = {
        "id": "i",
        "name": "n",
        "image": "b",
        "cpus": 1,
        "memory_mib": 512,
        "disk_mib": 1,
        "token": "t",
        field: value,
    }
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(raw, SandboxSpec)
