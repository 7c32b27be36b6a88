"""What a sandbox was asked to be is what its guest is: environment, files, names, DNS, and the token at both doors."""

import json
from pathlib import Path

import pytest
from tests.conformance.conftest import Create, Sandbox
from tests.conformance.engines import VOLUME_MIB, Settings

from bhatti.engines.base import Engine
from bhatti.errors import BhattiError, GuestFailure
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import GuestFile, VolumeAttachment

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]


async def test_the_environment_is_injected_character_by_character(box: Sandbox) -> None:
    result = await box.link.exec(["printenv", "GREETING"])
    assert result.stdout.decode() == box.spec.env["GREETING"] + "\n"


async def test_each_guest_has_its_own_name(pair: tuple[Sandbox, Sandbox]) -> None:
    for sandbox in pair:
        result = await sandbox.link.exec(["sh", "-c", "hostname; cat /etc/hostname; getent hosts $(hostname) | wc -l"])
        assert result.stdout.decode().split() == [sandbox.spec.name, sandbox.spec.name, "1"]


async def test_the_name_servers_are_in_resolv_conf(box: Sandbox) -> None:
    text = (await box.link.read_file("/etc/resolv.conf")).decode()
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]
    assert servers


async def test_the_guest_cannot_change_what_it_was_told(box: Sandbox) -> None:
    result = await box.link.exec(["cat", "/run/bhatti/config/config.json"], user="root")
    config = json.loads(result.stdout)
    assert config["sandbox_id"] == box.spec.id
    result = await box.link.exec(["touch", "/run/bhatti/config/config.json"], user="root")
    assert b"Read-only" in result.stderr


async def test_the_token_is_hidden_from_the_user_of_the_guest(box: Sandbox) -> None:
    result = await box.link.exec(["cat", "/run/bhatti/config/config.json"])
    assert b"Permission denied" in result.stderr
    result = await box.link.exec(["sh", "-c", "cat /proc/cmdline; env"])
    assert box.spec.token.encode() not in result.stdout


def with_token(box: Sandbox, token: str | None) -> GuestLink:
    return GuestLink(box.link._pool._transport, token=token)


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_without_the_right_token_neither_port_serves(box: Sandbox, token: str | None) -> None:
    async with with_token(box, token) as stranger:
        with pytest.raises(BhattiError, match="auth required"):
            await stranger.exec(["true"])
        with pytest.raises(BhattiError, match="auth required"):
            async with stranger.forward(22):
                pass


async def test_with_the_right_token_a_second_link_is_served(box: Sandbox) -> None:
    async with with_token(box, box.spec.token) as second:
        assert (await second.exec(["true"])).exit_code == 0
        with pytest.raises(GuestFailure, match="refused"):
            async with second.forward(59_999):
                pass


async def test_a_shape_and_files_are_as_asked(engine: Engine, create: Create) -> None:
    """Template-free creation: direct CPU, memory, files, and a script that runs at the start, as session `init`."""
    files = (
        GuestFile("/home/lohar/.ssh/authorized_keys", b"ssh-ed25519 AAAA\n", "0600"),
        GuestFile("/etc/deep/down.bin", bytes(range(256))),
    )
    init = "echo be''gun by $(id -un); exec sleep 1000"
    sandbox = await create("shaped", cpus=2, memory_mib=384, files=files, disk_mib=512, init=init)
    assert [session.session_id for session in await sandbox.link.sessions()] == ["init"]
    async with sandbox.link.attach("init") as script:
        seen = b""
        while b"begun by lohar\r\n" not in seen:
            seen += await script.read() or b""
    result = await sandbox.link.exec(
        ["sh", "-c", "nproc; grep MemTotal /proc/meminfo; find .ssh -type f -printf '%u %m'"], cwd="/home/lohar"
    )
    lines = result.stdout.decode().splitlines()
    assert lines[2] == "lohar 600"
    assert await sandbox.link.read_file("/etc/deep/down.bin") == bytes(range(256))
    if engine.capabilities.own_kernel:  # another kernel shows what it has, not what the sandbox may use of it
        assert lines[0] == "2"
        assert 384 * 1024 * 0.75 < int(lines[1].split()[1]) <= 384 * 1024
    if engine.capabilities.disk_limit:
        disk = await sandbox.link.exec(["df", "--output=size", "-m", "/"])
        assert 400 < int(disk.stdout.split()[-1]) <= 512


def command_line_of(box: Sandbox) -> bytes:
    return Path(f"/proc/{box.machine.pid}/cmdline").read_bytes()


async def test_nothing_secret_can_be_read_by_others_on_the_host(box: Sandbox, settings: Settings) -> None:
    assert box.spec.token.encode() not in command_line_of(box)
    # Where a machine is a user of its own, that user gets into its directory, but nobody gets into that of all.
    below = settings.sandboxes_dir / box.spec.id
    assert any(directory.stat().st_mode & 0o077 == 0 for directory in (below, settings.sandboxes_dir))
    assert below.stat().st_mode & 0o066 == 0


MOUNTS = (VolumeAttachment("data", "/data"), VolumeAttachment("more", "/srv/more"))


async def test_what_is_written_to_volumes_outlives_sandboxes_and_their_sleep(engine: Engine, create: Create) -> None:
    """Volumes: data persists, the mounts belong to the user and stay over a stop, read-only ones cannot be written."""
    for mount in MOUNTS:
        await engine.volumes.create(mount.name, VOLUME_MIB)
    first = await create("writer", volumes=MOUNTS)
    await first.link.write_file("/data/kept", b"kept")
    show = "for v in /data /srv/more; do find $v -maxdepth 0 -printf '%U:%G '; echo $v > $v/name; done"
    owner = await first.link.exec(["sh", "-c", show])
    assert (owner.exit_code, owner.stdout) == (0, b"1000:1000 1000:1000 ")
    await engine.stop(first.spec.id, memory=engine.capabilities.memory_snapshot)
    await engine.start(first.spec.id)
    again = await engine.link(first.spec.id).exec(["sh", "-c", "cat /data/name /srv/more/name; echo late > /data/late"])
    assert (again.exit_code, again.stdout) == (0, b"/data\n/srv/more\n"), again.stderr
    await engine.destroy(first.spec.id)
    readers = tuple(VolumeAttachment(mount.name, mount.target, read_only=True) for mount in MOUNTS)
    second = await create("reader", volumes=readers)
    assert await second.link.read_file("/data/kept") == b"kept"
    assert await second.link.read_file("/data/late") == b"late\n"
    assert await second.link.read_file("/srv/more/name") == b"/srv/more\n"
    refused = await second.link.exec(["sh", "-c", "mount -o remount,rw /data; echo x > /data/kept"], user="root")
    assert refused.exit_code != 0
    assert await second.link.read_file("/data/kept") == b"kept"
    await engine.destroy(second.spec.id)
    for mount in MOUNTS:
        await engine.volumes.remove(mount.name)
