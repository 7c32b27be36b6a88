"""What Firecracker alone has, in a real guest on it: a jail, random numbers of the host's, a balloon, vsock.

Needs a KVM that works, so it runs in the lab and on hosts that have one.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from tests.conformance.conftest import new_spec
from tests.firecracker import need_jailer, need_working_firecracker

from bhatti import paths
from bhatti.engines.base import Machine
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.machine import METRICS, FirecrackerMachine
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

BALLAST_MIB = 96

RANDOM = "cat /sys/class/misc/hw_random/rng_current; head -c 512 /dev/hwrng | wc -c"

FILL = f"head -c {BALLAST_MIB}M /dev/urandom > /dev/shm/ballast"


LARGE_MIB = 3584
"""Some of it is above 4 GiB, as the addresses from 3 GiB on are for devices; the kernel gives that part out first."""

GENERATIONS = 3

RANDOM_FILE = "cd /dev/shm && head -c 16M /dev/urandom > file-{} && sha256sum file-*"


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory on a disk: /tmp may be in memory, and too small for what is in memory."""
    with tempfile.TemporaryDirectory(prefix="bhatti-", dir="/var/tmp") as found:
        yield Path(found)


@pytest.fixture(scope="module")
async def engine(directory: Path) -> AsyncIterator[FirecrackerEngine]:
    """An engine whose machines have all that can be asked for."""
    binary = need_working_firecracker()
    images = Path(paths.images_dir())
    ImageStore(images).build()
    settings = FirecrackerSettings(
        state_dir=directory,
        images_dir=images,
        binary=binary,
        jailer=need_jailer(binary),
        fork=False,
        boot_timeout_s=180,
        balloon=True,
        vsock=True,
        metrics=True,
    )
    async with FirecrackerEngine(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def machine(engine: FirecrackerEngine) -> AsyncIterator[FirecrackerMachine]:
    spec = new_spec("devices")
    await engine.create(spec)
    try:
        found = engine._machines[spec.id]
        assert isinstance(found, FirecrackerMachine)
        yield found
    finally:
        await engine.destroy(spec.id)


async def looked_until(machine: FirecrackerMachine, wanted: str) -> Machine:
    """Look at the machine until its guest has told `wanted` of its memory."""
    with anyio.fail_after(120):
        while wanted not in (found := await machine.look()).details:  # noqa: ASYNC110  # nobody tells that it has
            await anyio.sleep(0.1)
    return found


def resident_mib(pid: int) -> int:
    """Return how much memory a process has, files not counted. Blocks."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) >> 10


async def is_all_there(engine: FirecrackerEngine, machine: FirecrackerMachine) -> None:
    link = engine.link(machine.spec.id)
    # Nobody would be reached over a network that is down.
    assert (await link.exec(["ip", "link", "set", "eth0", "down"], user="root")).exit_code == 0
    said = await link.exec(["sh", "-c", RANDOM], user="root")
    assert said.stdout.split() == [b"virtio_rng.0", b"512"], said
    found = await looked_until(machine, "guest_free_mib")
    total, free = (int(found.details[f"guest_{name}_mib"]) for name in ("total", "free"))
    assert 0 < free < total <= machine.spec.memory_mib
    assert found.pid is not None
    proc = await anyio.Path(f"/proc/{found.pid}/status").read_text()
    status = dict(line.split(":\t", 1) for line in proc.splitlines())
    assert int(status["Uid"].split()[0]) > 1 << 16
    assert int(status["CapEff"], 16) == 0
    assert (await link.exec(["ip", "link", "set", "eth0", "up"], user="root")).exit_code == 0


async def test_all_devices_work_in_a_jail_also_after_sleep(
    engine: FirecrackerEngine, machine: FirecrackerMachine
) -> None:
    await is_all_there(engine, machine)
    for _ in range(2):  # from all of the memory, and from what changed
        await engine.stop(machine.spec.id)
        assert (await engine.start(machine.spec.id, require_memory=True)).how == "restored"
        await is_all_there(engine, machine)
    assert "balloon" in await anyio.Path(machine.files.directory / METRICS).read_text()


async def test_a_fork_of_it_has_them_too(engine: FirecrackerEngine, machine: FirecrackerMachine) -> None:
    spec = new_spec("fork")
    assert (await engine.fork(machine.spec.id, spec)).how == "forked"
    fork = engine._machines[spec.id]
    assert isinstance(fork, FirecrackerMachine)
    await is_all_there(engine, fork)
    await engine.destroy(spec.id)


async def test_memory_that_the_guest_has_freed_is_the_hosts_again(
    engine: FirecrackerEngine, machine: FirecrackerMachine
) -> None:
    link = engine.link(machine.spec.id)
    assert (await link.exec(["sh", "-c", FILL])).exit_code == 0
    pid = (await machine.look()).pid
    assert pid is not None
    full = resident_mib(pid)
    assert full >= BALLAST_MIB
    assert (await link.exec(["rm", "/dev/shm/ballast"])).exit_code == 0
    with anyio.fail_after(300):
        while resident_mib(pid) > full - BALLAST_MIB // 2:  # noqa: ASYNC110  # the guest tells nobody
            await anyio.sleep(0.1)


async def test_every_generation_of_a_large_memory_is_there(engine: FirecrackerEngine, directory: Path) -> None:
    """Also of memory on both sides of the addresses for devices: all of it first, then what has changed."""
    if shutil.disk_usage(directory).free < 2 * LARGE_MIB << 20:
        pytest.skip(f"a snapshot of {LARGE_MIB} MiB needs twice that much free disk")
    spec = new_spec("large", memory_mib=LARGE_MIB)
    await engine.create(spec)
    try:
        for generation in range(GENERATIONS):
            made = await engine.link(spec.id).exec(["sh", "-c", RANDOM_FILE.format(generation)])
            assert made.stdout.count(b"\n") == generation + 1, made
            await engine.stop(spec.id)
            assert (await engine.start(spec.id, require_memory=True)).how == "restored"
            found = await engine.link(spec.id).exec(["sh", "-c", "cd /dev/shm && sha256sum file-*"])
            assert found.stdout == made.stdout
        zones = await engine.link(spec.id).exec(["grep", "zone *Normal", "/proc/zoneinfo"])
        assert zones.exit_code == 0, "no memory above 4 GiB"
    finally:
        await engine.destroy(spec.id)
