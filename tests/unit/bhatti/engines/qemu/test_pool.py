"""How ready forks are kept; these are machines whose guest only halts. What one becomes is in conformance."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import HANG, SPEC, StubImages, nothing_is_left

from bhatti.engines.qemu import pool as module
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.mold import Mold
from bhatti.engines.qemu.pool import ReadyForks, ready_spec
from bhatti.engines.qemu.record import MachineRecord, Phase
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.qemu.snapshot import Manifest, SealedFile, maker_of
from bhatti.engines.stages import nobody_asked
from bhatti.errors import EngineFailure
from bhatti.model.sandbox import VolumeAttachment

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nobody_waits_for_the_agent")]


@pytest.fixture
def host(settings: QemuSettings, qemu: str) -> QemuHost:
    return dataclasses.replace(open_host(settings), images=StubImages(settings.images_dir, HANG))


class Forks(ReadyForks):
    """A pool whose machines boot, for want of an agent that could be told who it is."""

    failing = False
    made = 0

    async def _make(self, mold: Mold, owner: str) -> QemuMachine:
        if self.failing:
            raise EngineFailure("no such luck")
        machine = QemuMachine.new(self._host, ready_spec(mold, owner))
        await machine.boot(nobody_asked, why="")
        self.made += 1
        return machine


def mold(host: QemuHost, key: str = "shape") -> Mold:
    spec = msgspec.structs.replace(SPEC, id=f".golden-{key}", name="golden", token="golden")
    record = MachineRecord(phase=Phase.RUNNING, spec=spec, boot_id="", created_at=1.0)
    nothing = SealedFile("", 0, 0, "")
    manifest = Manifest(
        maker=maker_of(host),
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        card="user",
        kernel=nothing,
        initramfs=nothing,
        kernel_arguments="",
        drives=(),
        state=nothing,
        memory=None,
        agent="",
        taken_at=1.0,
    )
    return Mold(MachineFiles(host.settings.state_dir / "golden" / key), record, manifest)


@pytest.fixture
async def pool(host: QemuHost) -> AsyncIterator[Forks]:
    found = Forks(host, 2)
    yield found
    await found.aclose()
    assert await nothing_is_left(host.settings)


async def test_it_is_filled_for_the_mold_that_was_wanted_last(pool: Forks, host: QemuHost) -> None:
    pool.want(mold(host), "")
    await pool.filled()
    assert (pool.count, pool.made, pool.memory_mib) == (2, 2, 2 * SPEC.memory_mib)
    assert pool.take(mold(host, "other"), SPEC) is None
    pool.want(mold(host, "other"), "")
    await pool.filled()
    assert (pool.count, pool.made) == (2, 4)
    assert pool.take(mold(host), SPEC) is None
    holder = msgspec.structs.replace(SPEC, volumes=(VolumeAttachment("data", "/data"),))
    assert pool.take(mold(host, "other"), holder) is None
    taken = pool.take(mold(host, "other"), SPEC)
    assert taken is not None
    assert pool.count == 1
    await taken.remove()


async def test_one_that_is_ready_for_one_owner_is_not_given_to_another(pool: Forks, host: QemuHost) -> None:
    pool.want(mold(host), "usr_1")
    await pool.filled()
    assert pool.take(mold(host), SPEC) is None
    taken = pool.take(mold(host), msgspec.structs.replace(SPEC, owner="usr_1"))
    assert taken is not None
    await taken.remove()


async def test_nothing_is_kept_ready_for_an_owner_who_is_gone(pool: Forks, host: QemuHost) -> None:
    pool.want(mold(host), "usr_1")
    await pool.filled()
    await pool.forsake("usr_2")
    await pool.forsake("")
    assert pool.count == 2
    await pool.forsake("usr_1")
    assert pool.count == 0


async def test_one_that_has_died_is_not_given_away_and_is_replaced(pool: Forks, host: QemuHost) -> None:
    pool.want(mold(host), "")
    await pool.filled()
    for _, machine in pool._ready:
        assert machine._process is not None
        await machine._process.end()
    assert pool.take(mold(host), SPEC) is None
    pool.want(mold(host), "")
    await pool.filled()
    assert pool.count == 2


async def test_a_pool_of_none_makes_none(host: QemuHost) -> None:
    pool = Forks(host, 0)
    pool.want(mold(host), "")
    await pool.filled()
    assert (pool.count, pool.made) == (0, 0)


async def test_nothing_is_begun_while_somebody_waits_for_a_sandbox(pool: Forks, host: QemuHost) -> None:
    with pool.giving_way(), pool.giving_way():
        pool.want(mold(host), "")
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert pool.made == 0
    await pool.filled()
    assert pool.made == 2


async def test_a_failure_is_logged_and_the_next_wish_tries_again(
    pool: Forks, host: QemuHost, caplog: pytest.LogCaptureFixture
) -> None:
    pool.failing = True
    pool.want(mold(host), "")
    await pool.filled()
    assert "no such luck" in caplog.text
    pool.failing = False
    pool.want(mold(host), "")
    await pool.filled()
    assert pool.count == 2


async def test_closing_gives_up_what_is_being_made(pool: Forks, host: QemuHost) -> None:
    pool.want(mold(host), "")
    await asyncio.sleep(0)
    await pool.aclose()
    assert pool.count == 0


async def test_none_is_made_without_memory_to_spare(
    host: QemuHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meminfo = host.settings.state_dir / "meminfo"
    meminfo.write_text(f"MemTotal: 9999999 kB\nMemAvailable:   {(SPEC.memory_mib * module.SPARE - 1) << 10} kB\n")
    monkeypatch.setattr(module, "MEMINFO", meminfo)
    pool = ReadyForks(host, 1)
    with caplog.at_level(logging.WARNING):
        pool.want(mold(host), "")
        await pool.filled()
    assert pool.count == 0
    assert "511 MiB of memory are free" in caplog.text
    meminfo.unlink()


def test_until_it_is_taken_it_is_nobody(host: QemuHost) -> None:
    one, two = ready_spec(mold(host), ""), ready_spec(mold(host), "usr_1")
    assert one.id != two.id
    assert one.token not in (two.token, "golden")
    assert (one.name, one.env, one.files, one.memory_mib) == ("ready", {}, (), SPEC.memory_mib)
    assert (one.owner, two.owner) == ("", "usr_1")
