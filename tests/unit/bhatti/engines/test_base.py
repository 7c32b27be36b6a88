import inspect

import msgspec
import pytest

from bhatti.engines.base import Capabilities, CauseOfDeath, Engine, Finding, Machine
from bhatti.model.sandbox import Status, Temperature


def test_every_public_part_of_an_engine_is_documented_here() -> None:
    public = [value for name, value in vars(Engine).items() if not name.startswith("_") and callable(value)]
    assert public
    for value in [*public, Engine.capabilities, Engine.__aenter__, Engine.__aexit__]:
        assert inspect.getdoc(value)


def test_an_engine_that_leaves_something_out_cannot_be_made() -> None:
    class Half(Engine):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_an_engine_has_no_findings_unless_it_says_so() -> None:
    assert Engine.examine(None) == []


@pytest.mark.parametrize(
    "value",
    [
        Machine(
            id="s1",
            status=Status.FAILED,
            temperature=Temperature.COLD,
            timings_ms={"qemu": 1.5},
            cause=CauseOfDeath(kind="oom", detail="no memory"),
        ),
        Finding(name="qemu", level="failed", detail="missing", hint="apt install it"),
        Capabilities(
            own_kernel=True,
            pause=False,
            memory_snapshot=False,
            fork=False,
            bridge_network=True,
            hotplug_volumes=False,
            rootless=True,
        ),
    ],
)
def test_what_crosses_the_api_survives_it(value: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
