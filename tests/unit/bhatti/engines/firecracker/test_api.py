import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.firecracker import running

from bhatti.engines.firecracker import api_types as types
from bhatti.engines.firecracker.api import FirecrackerApi, refused
from bhatti.engines.qemu import probe_guest
from bhatti.engines.qemu.process import VmProcess
from bhatti.errors import EngineFailure, OutOfSpace, Unavailable

pytestmark = pytest.mark.anyio

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[FirecrackerApi]:
    """Serve somebody who is no Firecracker: gives every order that answer and hangs up, or never answers (None)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield FirecrackerApi(path)


async def test_it_says_who_it_is(api: FirecrackerApi) -> None:
    info = await api.info()
    assert (info.id, info.state, info.app_name) == ("test", "Not started", "Firecracker")
    assert await api.version() == info.vmm_version


async def test_a_machine_is_described_in_orders_that_it_takes(api: FirecrackerApi, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(probe_guest.elf())
    for name in ("initramfs", "vda", "vdb"):
        (tmp_path / name).write_bytes(bytes(4096))
    await api.boot_source(types.BootSource(kernel_image_path="kernel", initrd_path="initramfs", boot_args="quiet"))
    await api.machine_config(types.MachineConfiguration(vcpu_count=2, mem_size_mib=256, track_dirty_pages=True))
    bucket = types.TokenBucket(size=1 << 20, refill_time=100)
    limiter = types.RateLimiter(bandwidth=bucket, ops=bucket)
    base = types.Drive(drive_id="vda", path_on_host="vda", is_read_only=True, is_root_device=False)
    layer = types.Drive(
        drive_id="vdb",
        path_on_host="vdb",
        is_read_only=False,
        is_root_device=False,
        cache_type="Writeback",
        rate_limiter=limiter,
    )
    await api.drive(base)
    await api.drive(layer)
    await api.entropy(types.EntropyDevice(rate_limiter=limiter))
    await api.balloon(types.Balloon(amount_mib=0, deflate_on_oom=True, free_page_reporting=True))
    await api.vsock(types.Vsock(guest_cid=3, uds_path="vsock"))
    assert (tmp_path / "vsock").is_socket()


async def test_what_it_refuses_is_reported_in_its_own_words(api: FirecrackerApi) -> None:
    with pytest.raises(EngineFailure, match=r"refused PUT /machine-config: .*vCPU") as refusal:
        await api.machine_config(types.MachineConfiguration(vcpu_count=0, mem_size_mib=256, track_dirty_pages=True))
    assert refusal.value.code == "firecracker-refused"
    with pytest.raises(EngineFailure, match=r"refused PUT /drives/vda: .*No such file"):
        await api.drive(types.Drive(drive_id="vda", path_on_host="none", is_read_only=True, is_root_device=False))
    with pytest.raises(EngineFailure, match=r"refused PUT /boot-source: .*No such file"):
        await api.boot_source(types.BootSource(kernel_image_path="none", initrd_path="none", boot_args=""))
    card = types.NetworkInterface(iface_id="eth0", host_dev_name="bhatti-no-tap", guest_mac="no mac")
    with pytest.raises(EngineFailure, match="refused PUT /network-interfaces/eth0"):
        await api.network_interface(card)


async def test_orders_out_of_their_time_are_refused_and_it_lives_on(api: FirecrackerApi) -> None:
    for order in (api.start, api.pause, api.resume):
        with pytest.raises(EngineFailure) as refusal:
            await order()
        assert refusal.value.code == "firecracker-refused"
    with pytest.raises(EngineFailure, match="refused PUT /snapshot/create"):
        await api.save(types.SnapshotCreate(snapshot_type="Diff", snapshot_path="state", mem_file_path="ram"))
    assert (await api.info()).state == "Not started"


async def test_a_snapshot_that_is_none_cannot_be_loaded(api: FirecrackerApi, tmp_path: Path) -> None:
    for name in ("state", "ram"):
        (tmp_path / name).write_bytes(b"nonsense" * 1024)
    order = types.SnapshotLoad(
        snapshot_path="state",
        mem_backend=types.MemoryBackend(backend_path="ram"),
        track_dirty_pages=True,
        resume_vm=False,
        network_overrides=(types.NetworkOverride(iface_id="eth0", host_dev_name="bhatti-no-tap"),),
    )
    with pytest.raises((EngineFailure, Unavailable)) as refusal:
        await api.load(order)
    assert refusal.value.code in ("firecracker-refused", "firecracker-silent")


async def test_a_process_that_has_died_is_told_from_one_that_refuses(
    started: tuple[VmProcess, FirecrackerApi],
) -> None:
    process, api = started
    os.kill(process.identity.pid, signal.SIGKILL)
    await process.wait()
    with pytest.raises(Unavailable) as silence:
        await api.info()
    assert silence.value.code == "firecracker-silent"


async def test_a_socket_that_never_appears_is_waited_for_no_longer_than_wished(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no API socket at .* within 0\.1 s"):
        await FirecrackerApi(tmp_path / "api.sock").wait_ready(timeout_s=0.1)


async def test_the_path_of_the_socket_may_be_longer_than_the_kernel_allows(firecracker: str, tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    assert len(str(directory)) > 108
    async with running(firecracker, directory) as (_, api):
        assert (await api.info()).state == "Not started"


async def test_who_never_answers_is_silent(tmp_path: Path) -> None:
    async with answering(tmp_path / "s", None) as api:
        with pytest.raises(Unavailable, match=r"did not answer GET / within 0\.2 s") as silence:
            await api.info(timeout_s=0.2)
    assert silence.value.code == "firecracker-silent"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"id": "one"',
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 << 20),
    ],
)
async def test_who_is_no_firecracker_is_not_understood(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path / "s", answer) as api:
        with pytest.raises(EngineFailure) as failure:
            await api.info()
    assert failure.value.code == "firecracker-incomprehensible"
    assert failure.value.hint is not None


async def test_what_is_not_json_is_a_refusal_all_the_same(tmp_path: Path) -> None:
    async with answering(tmp_path / "s", b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\nnope") as api:
        with pytest.raises(EngineFailure, match="refused PUT /actions: nope"):
            await api.start()


def test_a_full_disk_is_told_from_other_refusals() -> None:
    fault = b'{"fault_message": "Cannot write snapshot: No space left on device (os error 28)"}'
    assert isinstance(refused("PUT /snapshot/create", fault), OutOfSpace)
