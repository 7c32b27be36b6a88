import inspect

import msgspec
import pytest
from tests.engines.fake import FakeEngine

from bhatti.engines.base import Capabilities, CauseOfDeath, Engine, Finding, Machine, SnapshotReport
from bhatti.errors import InvalidRequest
from bhatti.model.sandbox import SandboxSpec, Status, Temperature


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


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["pause", "resume", "stop", "start", "ensure_hot", "verify_snapshot"])
async def test_what_an_engine_does_not_offer_is_refused_and_says_so(name: str) -> None:
    engine = FakeEngine([])
    with pytest.raises(InvalidRequest, match="the engine local cannot") as caught:
        await getattr(engine, name)("s1")
    assert caught.value.code == "unsupported"


@pytest.mark.anyio
async def test_an_engine_that_cannot_fork_refuses_what_has_to_do_with_forks() -> None:
    spec = SandboxSpec(id="s2", name="s2", image="base", cpus=1, memory_mib=128, disk_mib=64, token="t")
    engine = FakeEngine([])
    for call in (
        engine.prepare(spec),
        engine.fork("s1", spec),
        engine.checkpoint("s1", "one"),
        engine.checkpoints("s1"),
        engine.remove_checkpoint("s1", "one"),
        engine.restore_checkpoint("s1", "one"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await call
        assert caught.value.code == "unsupported"


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
        SnapshotReport(usable=False, detail="was changed", probed=True, size_bytes=1),
        Finding(name="qemu", level="failed", detail="missing", hint="apt install it"),
        Capabilities(
            own_kernel=True,
            pause=False,
            memory_snapshot=False,
            fork=False,
            bridge_network=True,
            rootless=True,
        ),
    ],
)
def test_what_crosses_the_api_survives_it(value: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
