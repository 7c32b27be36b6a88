"""Checkpoints of a machine whose guest only halts: kept, listed, gone back to, removed. Guests' memory: conformance."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left, opened

from bhatti.engines.base import Machine
from bhatti.engines.qemu import checkpoints as module
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.record import Phase, read_record, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Conflict, InvalidRequest, NotFound, OutOfSpace
from bhatti.model.sandbox import Status, Temperature

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("qemu", "nobody_waits_for_the_agent")]


@pytest.fixture
async def engine(settings: QemuSettings) -> AsyncIterator[QemuEngine]:
    async with opened(settings) as engine:
        await engine.create(SPEC)
        yield engine
        await engine.destroy("s1")
        assert await nothing_is_left(settings)


@pytest.fixture
async def made(engine: QemuEngine) -> Machine:
    return await engine.status("s1")


def files(engine: QemuEngine) -> Path:
    return engine.settings.sandboxes_dir / "s1"


def new_files(engine: QemuEngine) -> list[str]:
    return [path.name for path in files(engine).glob("*.new")]


async def test_a_checkpoint_is_kept_while_the_machine_runs_on(engine: QemuEngine, made: Machine) -> None:
    kept = await engine.checkpoint("s1", "one")
    assert (kept.name, kept.usable) == ("one", True)
    assert kept.size_bytes > 0
    assert await engine.status("s1") == made
    second = await engine.checkpoint("s1", "two")
    assert await engine.checkpoints("s1") == [kept, second]
    await engine.remove_checkpoint("s1", "one")
    assert await engine.checkpoints("s1") == [second]


async def test_names_are_taken_once_and_checked(engine: QemuEngine) -> None:
    await engine.checkpoint("s1", "one")
    with pytest.raises(Conflict) as caught:
        await engine.checkpoint("s1", "one")
    assert caught.value.code == "checkpoint-exists"
    with pytest.raises(InvalidRequest):
        await engine.checkpoint("s1", "../one")
    await engine.stop("s1")  # now its own directory looks like a checkpoint's
    for call in (engine.remove_checkpoint, engine.restore_checkpoint):
        with pytest.raises(InvalidRequest):
            await call("s1", "../../s1")
    await engine.start("s1")
    for call in (engine.remove_checkpoint, engine.restore_checkpoint):
        with pytest.raises(NotFound) as missing:
            await call("s1", "nothing")
        assert missing.value.code == "checkpoint-not-found"


@pytest.mark.parametrize("state", ["hot", "warm", "stopped"])
async def test_a_machine_goes_back_from_any_state_again_and_again(engine: QemuEngine, state: str) -> None:
    layer = files(engine) / "layer.ext4"
    await engine.checkpoint("s1", "one")
    before = layer.read_bytes()
    for _ in range(2):
        if state == "warm":
            await engine.pause("s1")
        elif state == "stopped":
            await engine.stop("s1")
        with layer.open("r+b") as file:
            file.write(b"later")
        back = await engine.restore_checkpoint("s1", "one")
        assert (back.status, back.temperature, back.how) == (Status.RUNNING, Temperature.HOT, "restored")
        assert layer.read_bytes() == before
        assert new_files(engine) == []
    await engine.stop("s1")
    assert (await engine.start("s1", require_memory=True)).how == "restored"


async def test_a_damaged_checkpoint_is_shown_as_such_and_changes_nothing(engine: QemuEngine, made: Machine) -> None:
    await engine.checkpoint("s1", "one")
    os.truncate(files(engine) / "checkpoints" / "one" / "state", 10)
    (seen,) = await engine.checkpoints("s1")
    assert not seen.usable
    assert "10 bytes" in seen.detail
    with pytest.raises(Conflict) as caught:
        await engine.restore_checkpoint("s1", "one")
    assert caught.value.code == "checkpoint-unusable"
    assert await engine.status("s1") == made


async def test_a_full_disk_leaves_no_half_of_a_checkpoint(
    engine: QemuEngine, made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.touch()
        raise OutOfSpace("no room")

    await engine.checkpoint("s1", "one")
    with monkeypatch.context() as patches:
        patches.setattr(module, "copy_sparse", full)
        patches.setattr("bhatti.engines.qemu.mold.copy_sparse", full)
        with pytest.raises(OutOfSpace):
            await engine.checkpoint("s1", "two")
        with pytest.raises(OutOfSpace):
            await engine.restore_checkpoint("s1", "one")
    assert [kept.name for kept in await engine.checkpoints("s1")] == ["one"]
    assert not (files(engine) / "checkpoints" / "two").exists()
    assert new_files(engine) == []
    assert await engine.status("s1") == made


async def test_only_what_runs_can_be_copied(engine: QemuEngine) -> None:
    await engine.stop("s1")
    with pytest.raises(Conflict) as caught:
        await engine.checkpoint("s1", "one")
    assert caught.value.code == "not-running"


async def test_what_was_being_copied_when_an_engine_died_is_swept(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        await engine.create(SPEC)
        await engine.checkpoint("s1", "one")
        half = files(engine) / "checkpoints" / "half"
        half.mkdir()
        (half / "ram").write_bytes(b"half of it")
        (files(engine) / "layer.ext4.new").write_bytes(b"half of it")
    async with opened(settings) as later:
        await later.adopt()
        assert [kept.name for kept in await later.checkpoints("s1")] == ["one"]
        assert not half.exists()
        assert new_files(later) == []
        await later.destroy("s1")
        assert await nothing_is_left(settings)


async def test_a_machine_halted_for_a_copy_when_its_engine_died_runs_on(settings: QemuSettings) -> None:
    async with opened(settings) as engine:
        await engine.create(SPEC)
        await engine.pause("s1")
        record = engine._machines["s1"].record
        write_record(files(engine), msgspec.structs.replace(record, phase=Phase.CASTING))
    async with opened(settings) as later:
        (adopted,) = await later.adopt()
        assert (adopted.status, adopted.temperature) == (Status.RUNNING, Temperature.HOT)
        record_now = read_record(files(later))
        assert record_now is not None
        assert record_now.phase is Phase.RUNNING
        await later.destroy("s1")
        assert await nothing_is_left(settings)
