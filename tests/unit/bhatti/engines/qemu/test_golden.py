"""Which sandboxes share a golden snapshot, and that it is made once. Real ones are made in conformance."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import HANG, SPEC, StubImages

from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.golden import GoldenSnapshots, golden_spec
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.mold import Mold, seal_mold
from bhatti.engines.qemu.record import Frame, MachineRecord, Phase
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import CorruptData, EngineFailure, NotFound
from bhatti.images.store import BootFiles
from bhatti.model.sandbox import GuestFile, SandboxSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(settings: QemuSettings, qemu: str) -> QemuHost:
    return dataclasses.replace(open_host(settings), images=StubImages(settings.images_dir, HANG))


class Maker:
    """Makes molds of nothing, and counts them."""

    def __init__(self, host: QemuHost) -> None:
        self.host = host
        self.specs: list[SandboxSpec] = []
        self.failing: Exception | None = None
        self.idle = False

    async def __call__(self, spec: SandboxSpec, files: MachineFiles) -> None:
        self.specs.append(spec)
        if self.failing is not None:
            raise self.failing
        if not self.idle:
            await anyio.to_thread.run_sync(self.write, spec, files)

    def write(self, spec: SandboxSpec, files: MachineFiles) -> None:
        for path in (files.config, files.layer, files.memory, files.state):
            path.write_bytes(b"x")
        boot = self.host.images.boot_files("stub")
        drives = tuple((str(path), True) for path in (boot.base, boot.agent, files.config, files.layer))
        frame = Frame(kernel=str(boot.kernel), initramfs=str(boot.initramfs), kernel_arguments="", drives=drives)
        record = MachineRecord(phase=Phase.RUNNING, spec=spec, boot_id="b", created_at=1.0, network="user", frame=frame)
        seal_mold(self.host, record, files)


@pytest.fixture
def maker(host: QemuHost) -> Maker:
    return Maker(host)


@pytest.fixture
async def golden(host: QemuHost, maker: Maker) -> AsyncIterator[GoldenSnapshots]:
    snapshots = GoldenSnapshots(host, maker)
    yield snapshots
    await snapshots.aclose()


def ignore(mold: Mold) -> None:
    """Nobody waits for it."""


async def test_one_whose_memory_was_damaged_is_made_again(
    host: QemuHost, golden: GoldenSnapshots, maker: Maker
) -> None:
    memory = (await golden.ensure(SPEC)).files.memory
    before = memory.stat()
    memory.write_bytes(b"y")
    os.utime(memory, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = GoldenSnapshots(host, maker)
    assert "checksum" in str(later.find(SPEC))
    assert isinstance(await later.ensure(SPEC), Mold)
    assert memory.read_bytes() == b"x"


async def test_a_golden_snapshot_is_made_once_however_many_ask(golden: GoldenSnapshots, maker: Maker) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(golden.ensure, SPEC)
    assert len(maker.specs) == 1
    assert isinstance(golden.find(SPEC), Mold)


async def test_what_is_begun_in_background_is_there_in_the_end(golden: GoldenSnapshots, maker: Maker) -> None:
    assert golden.find(SPEC) == "it has no memory snapshot"
    told: list[Mold] = []
    golden.ensure_soon(SPEC, told.append)
    golden.ensure_soon(SPEC, told.append)
    made = await golden.ensure(SPEC)
    await asyncio.gather(*golden._making.values())
    assert told == [made]
    assert len(maker.specs) == 1


async def test_closing_gives_up_what_is_being_made(host: QemuHost) -> None:
    begun = anyio.Event()
    ended: list[str] = []

    async def never(spec: SandboxSpec, files: MachineFiles) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(spec.id)

    golden = GoldenSnapshots(host, never)
    golden.ensure_soon(SPEC, ignore)
    await begun.wait()
    await golden.aclose()
    assert len(ended) == 1
    assert list(host.settings.golden_dir.iterdir()) == []


async def test_a_failure_in_background_is_logged_and_tried_again_later(
    golden: GoldenSnapshots, host: QemuHost, maker: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    maker.failing = EngineFailure("no such luck")
    golden.ensure_soon(SPEC, ignore)
    await asyncio.gather(*golden._making.values())
    with pytest.raises(EngineFailure):
        await golden.ensure(SPEC)
    assert "no such luck" in caplog.text
    assert list(host.settings.golden_dir.iterdir()) == []
    maker.failing = None
    assert isinstance(await golden.ensure(SPEC), Mold)


async def test_one_that_came_out_wrong_is_not_used(golden: GoldenSnapshots, maker: Maker) -> None:
    maker.idle = True
    with pytest.raises(CorruptData, match="no memory snapshot"):
        await golden.ensure(SPEC)


@pytest.mark.parametrize("change", [{"cpus": 2}, {"memory_mib": 256}, {"disk_mib": 128}])
async def test_each_shape_has_its_own(golden: GoldenSnapshots, change: dict[str, int]) -> None:
    assert golden.key(msgspec.structs.replace(SPEC, **change)) != golden.key(SPEC)


async def test_those_of_other_devices_are_others(golden: GoldenSnapshots, host: QemuHost, maker: Maker) -> None:
    other = GoldenSnapshots(dataclasses.replace(host, devices="limited"), maker)
    assert other.key(SPEC) != golden.key(SPEC)


async def test_one_that_is_outdated_goes_when_its_successor_comes(
    golden: GoldenSnapshots, host: QemuHost, settings: QemuSettings
) -> None:
    await golden.ensure(SPEC)
    other = msgspec.structs.replace(SPEC, cpus=2)
    await golden.ensure(other)
    old = golden.key(SPEC)
    digests = dataclasses.replace(host.images.boot_files("stub"), digests={"agent": "newer"})
    host.images.boot_files = lambda name: digests  # type: ignore[method-assign]
    await golden.ensure(SPEC)
    left = {path.name for path in (settings.state_dir / "golden").iterdir()}
    assert old not in left
    assert len(left) == 2


async def test_nothing_of_a_sandbox_but_its_shape_is_in_a_golden_machine(golden: GoldenSnapshots) -> None:
    secret = msgspec.structs.replace(
        SPEC, id="other", token="swordfish", env={"PASSWORD": "xyzzy"}, files=(GuestFile("/etc/key", b"plugh"),)
    )
    assert golden.key(secret) == golden.key(SPEC)
    text = msgspec.json.encode(golden_spec(secret, "k")).decode()
    for word in ("swordfish", "xyzzy", "PASSWORD", "/etc/key", "other"):
        assert word not in text


def test_golden_snapshots_are_below_the_state_directory(host: QemuHost, maker: Maker, settings: QemuSettings) -> None:
    golden = GoldenSnapshots(host, maker)
    assert golden._directory == Path(settings.state_dir) / "golden"


async def test_what_an_earlier_engine_did_not_finish_is_swept(golden: GoldenSnapshots, settings: QemuSettings) -> None:
    made = await golden.ensure(SPEC)
    half = settings.state_dir / "golden" / "half"
    half.mkdir()
    (half / "ram").write_bytes(b"half of it")
    golden.sweep()
    assert list((settings.state_dir / "golden").iterdir()) == [made.files.directory]


async def test_those_of_images_that_are_gone_or_replaced_are_let_go_of(
    golden: GoldenSnapshots, host: QemuHost, settings: QemuSettings
) -> None:
    golden.release()
    replaced, gone = await golden.ensure(SPEC), msgspec.structs.replace(SPEC, image="gone", cpus=2)
    files = host.images.boot_files("stub")
    host.images.boot_files = lambda name: files  # type: ignore[method-assign]
    other = await golden.ensure(gone)
    half = settings.golden_dir / "half"
    half.mkdir()

    def boot_files(name: str) -> BootFiles:
        if name == "gone":
            raise NotFound("there is no image 'gone'")
        return files

    host.images.boot_files = boot_files  # type: ignore[method-assign]
    golden.release()
    assert set(settings.golden_dir.iterdir()) == {replaced.files.directory, half}
    assert not other.files.directory.exists()
    files = dataclasses.replace(files, digests={"base": "newer"})
    golden.release()
    assert list(settings.golden_dir.iterdir()) == [half]
