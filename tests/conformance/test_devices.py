"""What only Firecracker's machines can have: the agent over vsock, a balloon, a jail with limits, entropy."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conformance.conftest import Sandbox, new_spec
from tests.conformance.engines import settings_for
from tests.conformance.leftovers import traces_of
from tests.firecracker import need_groups, need_jailer

from bhatti.engines.base import Engine
from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits
from bhatti.engines.registry import open_engine
from bhatti.guestlink.transports import VsockTransport
from bhatti.model.sandbox import Status

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

DRIVERS = 'for name in /sys/bus/virtio/devices/*/driver; do basename "$(readlink "$name")"; done'


@pytest.fixture(autouse=True)
async def nothing_new() -> None:
    """The engine of this file is its own: what it leaves is looked at when it closes."""


@pytest.fixture(scope="module")
async def equipped(
    engine_name: str, tmp_path_factory: pytest.TempPathFactory, images_dir: Path
) -> AsyncIterator[Engine]:
    """An engine with everything that can be asked for."""
    if engine_name != "firecracker":
        pytest.skip(f"the engine {engine_name} has no such devices")
    settings = settings_for("firecracker", tmp_path_factory.mktemp("devices"), images_dir)
    assert isinstance(settings, FirecrackerSettings)
    need_jailer(settings.binary)
    need_groups()
    limits = JailLimits(cpu_percent=100, memory_spare_mib=128, tasks=32)
    settings = dataclasses.replace(settings, vsock=True, balloon=True, jail_limits=limits, fork=True)
    async with open_engine(engine_name, settings) as opened:
        await opened.adopt()
        yield opened
        assert await opened.list() == []
    assert str(await traces_of(settings)) == "nothing"


@pytest.fixture(scope="module")
async def box(equipped: Engine) -> AsyncIterator[Sandbox]:
    spec = new_spec("equipped")
    await equipped.prepare(spec)
    machine = await equipped.create(spec)
    yield Sandbox(spec, machine, equipped.link(spec.id))
    await equipped.destroy(spec.id)


async def test_a_fork_is_reached_over_vsock_and_has_a_driver_for_each_device(box: Sandbox) -> None:
    assert box.machine.how == "forked", box.machine.why
    assert isinstance(box.link._pool._transport, VsockTransport)
    done = await box.link.exec(["sh", "-c", DRIVERS])
    assert {"virtio_rng", "virtio_balloon", "vmw_vsock_virtio_transport", "virtio_net"} <= set(
        done.stdout.decode().split()
    )
    done = await box.link.exec(
        ["sh", "-c", "cat /sys/class/misc/hw_random/rng_current; head -c 16 /dev/hwrng | wc -c"], user="root"
    )
    assert done.stdout.decode().split() == ["virtio_rng.0", "16"], done.stderr


def test_a_process_in_the_jail_is_nobody_of_this_host_and_limited(box: Sandbox) -> None:
    process = Path(f"/proc/{box.machine.pid}")
    assert int((process / "status").read_text().split("Uid:")[1].split()[0]) > 1 << 30
    assert not (process / "root/etc/passwd").exists()
    assert "/bhatti-" in (process / "cgroup").read_text()


async def test_memory_that_a_guest_has_freed_comes_back(box: Sandbox) -> None:
    """The balloon's free page reporting: what was used and freed is the host's again."""

    def resident_mib() -> int:
        return int(Path(f"/proc/{box.machine.pid}/status").read_text().split("VmRSS:")[1].split()[0]) >> 10

    used = await box.link.exec(["sh", "-c", "head -c 96M /dev/zero >/dev/shm/much"])
    assert used.exit_code == 0, used.stderr
    most = resident_mib()
    await box.link.exec(["rm", "/dev/shm/much"])
    # The guest reports what it has freed some seconds later: waits in it, where nothing can be awaited.
    for _ in range(60):
        if resident_mib() < most - 48:
            break
        await box.link.exec(["sleep", "1"])
    assert resident_mib() < most - 48


async def test_the_agent_is_there_again_over_vsock_after_a_stop(equipped: Engine, box: Sandbox) -> None:
    await box.link.exec(["sh", "-c", "echo before >/dev/shm/kept"])
    for _ in range(2):  # all of the memory, then what has changed
        assert (await equipped.stop(box.spec.id)).status is Status.STOPPED
        await equipped.start(box.spec.id, require_memory=True)
        link = equipped.link(box.spec.id)
        assert await link.read_file("/dev/shm/kept") == b"before\n"
