"""Sandboxes made by fork: each somebody of its own, at once, and going on from where it was woken."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.conformance import memory
from tests.conformance.conftest import Sandbox, new_spec
from tests.conformance.engines import VOLUME_MIB, Settings, settings_for
from tests.conformance.leftovers import traces_of

from bhatti.engines.base import Engine
from bhatti.engines.qemu import fork
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.fork import ForkingVm
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.registry import open_engine
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import GuestFile, Status, VolumeAttachment
from bhatti.net.bridge import bridges_called
from bhatti.net.instance import bridge_alias, instance_of
from lohar.wire.messages import Identity

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

WHO = "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1; echo $ME"


@pytest.fixture(autouse=True)
async def nothing_new() -> None:
    """The engine of this file is its own: what it leaves is looked at when it closes."""


@pytest.fixture(scope="module")
def fork_settings(
    engine_kind: str, tmp_path_factory: pytest.TempPathFactory, images_dir: Path, docker_socket: Path | None
) -> Settings:
    settings = settings_for(engine_kind, tmp_path_factory.mktemp("forks"), images_dir, docker_socket)
    return dataclasses.replace(settings, fork=True, ready_pool=1) if isinstance(settings, QemuSettings) else settings


@pytest.fixture(scope="module")
async def forking(engine: Engine, engine_name: str, fork_settings: Settings) -> AsyncIterator[Engine]:
    """An engine that has a golden snapshot for the shape of `new_spec`."""
    if not engine.capabilities.fork:
        pytest.skip(f"the engine {engine.name} cannot fork")
    async with open_engine(engine_name, fork_settings) as opened:
        await opened.adopt()
        await opened.prepare(new_spec("shape"))
        yield opened
        assert await opened.list() == []
    assert str(await traces_of(fork_settings)) == "nothing"


@pytest.fixture(scope="module")
async def twins(forking: Engine) -> AsyncIterator[tuple[Sandbox, Sandbox]]:
    """Two forks of the same golden snapshot, made at the same time."""
    made: dict[str, Sandbox] = {}

    async def create(name: str) -> None:
        file = GuestFile("/workspace/note", f"for {name}".encode(), "0640")
        spec = new_spec(name, env={"ME": name}, files=(file,))
        machine = await forking.create(spec)
        made[name] = Sandbox(spec, machine, forking.link(spec.id))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, "castor")
            tasks.start_soon(create, "pollux")
        yield made["castor"], made["pollux"]
    finally:
        for sandbox in made.values():
            await forking.destroy(sandbox.spec.id)


async def who(link: GuestLink) -> list[str]:
    result = await link.exec(["sh", "-c", WHO])
    assert result.exit_code == 0, result.stderr
    return [line.strip() for line in result.stdout.decode().splitlines()]


async def test_twins_are_forked_and_differ_in_everything_that_is_their_own(twins: tuple[Sandbox, Sandbox]) -> None:
    """Different hostname, machine id, MAC, random bytes, environment, files and address: equal ones are a failure."""
    for sandbox in twins:
        assert sandbox.machine.how == "forked", sandbox.machine.why
    first, second = [await who(sandbox.link) for sandbox in twins]
    assert len(first) == 5
    for mine, theirs in zip(first, second, strict=True):
        assert mine != theirs
    assert [first[0], first[4], second[0], second[4]] == ["castor", "castor", "pollux", "pollux"]
    assert twins[0].machine.address != twins[1].machine.address
    for sandbox in twins:
        shown = await sandbox.link.exec(["ip", "-4", "-br", "address", "show", "dev", "eth0"])
        assert f" {sandbox.machine.address}/" in shown.stdout.decode()
        assert "169.254" not in shown.stdout.decode()
        assert await sandbox.link.read_file("/workspace/note") == f"for {sandbox.spec.name}".encode()
        assert (await sandbox.link.stat("/workspace/note")).mode == "0640"
        assert await memory.clock_error_s(sandbox.link) < 1
        assert (await sandbox.link.exec(["whoami"])).stdout == b"lohar\n"
        assert (await sandbox.link.hello()).sandbox_id == sandbox.spec.id


async def test_a_twin_does_not_know_the_other_ones_token(forking: Engine, twins: tuple[Sandbox, Sandbox]) -> None:
    transport = twins[0].link._pool._transport
    async with GuestLink(transport, token=twins[1].spec.token) as stranger:
        with pytest.raises(Exception, match="auth required"):
            await stranger.exec(["true"])


async def test_twins_reach_each_other_and_their_gateway(twins: tuple[Sandbox, Sandbox]) -> None:
    route = await twins[0].link.exec(["ip", "-4", "route", "show", "default"])
    gateway = route.stdout.split()[2].decode()
    for source, target in ((twins[0], str(twins[1].machine.address)), (twins[1], str(twins[0].machine.address))):
        for address in (target, gateway):
            ping = await source.link.exec(["ping", "-c", "1", "-W", "5", address], timeout_s=20)
            assert ping.exit_code == 0, ping.stdout


async def test_a_fork_of_a_running_sandbox_goes_on_with_its_processes_and_disk(
    forking: Engine, twins: tuple[Sandbox, Sandbox]
) -> None:
    source = dataclasses.replace(twins[0], link=forking.link(twins[0].spec.id))
    pid = await memory.begin(source.link)
    await memory.tell(source.link, "common")
    await source.link.write_file("/workspace/common", b"before")
    spec = new_spec("helena", env={"ME": "helena"})
    machine = await forking.fork(source.spec.id, spec)
    try:
        assert machine.how == "forked"
        link = forking.link(spec.id)
        assert await memory.tell(link, "mine") == "common mine"
        # The source went on by itself and knows nothing of what its fork does.
        assert await memory.tell(source.link, "theirs") == "common theirs"
        assert await link.read_file("/workspace/common") == b"before"
        await link.write_file("/workspace/common", b"after")
        assert await source.link.read_file("/workspace/common") == b"before"
        mine, theirs = await who(link), await who(source.link)
        assert all(one != other for one, other in zip(mine, theirs, strict=True))
        assert (mine[0], mine[4]) == ("helena", "helena")
        ping = await link.exec(["ping", "-c", "1", "-W", "5", str(source.machine.address)], timeout_s=20)
        assert ping.exit_code == 0, ping.stdout
    finally:
        await forking.destroy(spec.id)
        await source.link.exec(["kill", str(pid)])


async def test_a_fork_has_routes_whatever_its_source_has(forking: Engine, twins: tuple[Sandbox, Sandbox]) -> None:
    """Who is root in a guest may cut it off from the outside; a fork of it is reached, and told its own way out."""
    link, spec = forking.link(twins[0].spec.id), new_spec("hermia")
    route = (await link.exec(["ip", "route", "show", "default"])).stdout.decode().split()
    assert (await link.exec(["ip", "route", "del", "default"], user="root")).exit_code == 0
    try:
        await forking.fork(twins[0].spec.id, spec)
        told = await forking.link(spec.id).exec(["ip", "route", "show", "default"])
        assert told.stdout.decode().split()[:3] == ["default", "via", route[2]]
    finally:
        await link.exec(["ip", "route", "add", *route], user="root")
        await forking.destroy(spec.id)


async def test_a_checkpoint_is_gone_back_to_and_forked_from(forking: Engine, twins: tuple[Sandbox, Sandbox]) -> None:
    """A fork's memory is private, so its checkpoints have it in the stream; after a stop it is a file."""
    sandbox_id = twins[0].spec.id
    pid = await memory.begin(forking.link(sandbox_id))
    for how in ("private", "file"):
        link = forking.link(sandbox_id)
        before = await memory.tell(link, f"kept-{how}")
        await link.write_file("/workspace/checked", b"before")
        assert (await forking.checkpoint(sandbox_id, how)).usable
        await memory.tell(link, "lost")
        await link.write_file("/workspace/checked", b"after")
        back = await forking.restore_checkpoint(sandbox_id, how)
        assert (back.how, back.address) == ("restored", twins[0].machine.address)
        link = forking.link(sandbox_id)
        assert await memory.recall(link) == before
        assert await link.read_file("/workspace/checked") == b"before"
        assert await memory.clock_error_s(link) < 1
        spec = new_spec(f"of-{how}", env={"ME": how})
        try:
            forked = await forking.fork(sandbox_id, spec, checkpoint=how)
            assert forked.address != back.address
            assert await memory.recall(forking.link(spec.id)) == before
            assert (await who(forking.link(spec.id)))[0] == spec.name
        finally:
            await forking.destroy(spec.id)
        await forking.remove_checkpoint(sandbox_id, how)
    assert await forking.checkpoints(sandbox_id) == []
    await forking.link(sandbox_id).exec(["kill", str(pid)])


async def test_a_fork_stops_with_all_of_its_memory_and_then_with_little(
    forking: Engine, twins: tuple[Sandbox, Sandbox], fork_settings: Settings
) -> None:
    sandbox_id = twins[1].spec.id
    pid = await memory.begin(forking.link(sandbox_id))
    told = ""
    for generation in ("full", "small", "smaller"):
        told = f"{told} {generation}".strip()
        assert await memory.tell(forking.link(sandbox_id), generation) == told
        assert (await forking.stop(sandbox_id)).status is Status.STOPPED
        assert (await forking.verify_snapshot(sandbox_id)).usable
        started = await forking.start(sandbox_id, require_memory=True)
        assert (started.how, started.address) == ("restored", twins[1].machine.address)
        assert await memory.recall(forking.link(sandbox_id)) == told
    state = fork_settings.state_dir / "sandboxes" / sandbox_id / "state"
    assert (await anyio.Path(state).stat()).st_size < 4 << 20
    assert (await who(forking.link(sandbox_id)))[0] == "pollux"
    await forking.link(sandbox_id).exec(["kill", str(pid)])


async def test_a_fork_whose_memory_is_lost_boots_as_who_it_is(forking: Engine, twins: tuple[Sandbox, Sandbox]) -> None:
    sandbox_id = twins[1].spec.id
    link = forking.link(sandbox_id)
    await link.write_file("/workspace/note", b"edited")
    await forking.stop(sandbox_id, memory=False)
    started = await forking.start(sandbox_id)
    assert (started.how, started.address) == ("disk-boot", twins[1].machine.address)
    link = forking.link(sandbox_id)
    seen = await who(link)
    assert (seen[0], seen[4]) == ("pollux", "pollux")
    assert await link.read_file("/workspace/note") == b"edited"


async def test_a_sandbox_that_was_ready_is_somebody_of_its_own_at_once(
    forking: Engine, twins: tuple[Sandbox, Sandbox]
) -> None:
    assert isinstance(forking, QemuEngine)  # or a kind of it, as all are that can fork
    await forking._ready.filled()
    file = GuestFile("/workspace/note", b"for quick", "0640")
    spec = new_spec("quick", env={"ME": "quick"}, files=(file,), init="touch /tmp/begun")
    machine = await forking.create(spec)
    try:
        assert (machine.how, machine.id) == ("pooled", spec.id)
        link = forking.link(spec.id)
        mine, theirs = await who(link), await who(forking.link(twins[0].spec.id))
        assert all(one != other for one, other in zip(mine, theirs, strict=True))
        assert (mine[0], mine[4]) == ("quick", "quick")
        assert (await link.hello()).sandbox_id == spec.id
        assert await link.read_file("/workspace/note") == b"for quick"
        assert await memory.clock_error_s(link) < 1
        ping = await link.exec(["ping", "-c", "1", "-W", "5", str(twins[0].machine.address)], timeout_s=20)
        assert ping.exit_code == 0, ping.stdout
        # Its directory, process and tap have another name; it sleeps, wakes and is forked like any other.
        await forking.stop(spec.id)
        assert (await forking.start(spec.id, require_memory=True)).how == "restored"
        fork = new_spec("quicker")
        assert (await forking.fork(spec.id, fork)).how == "forked"
        await forking.destroy(fork.id)
    finally:
        await forking.destroy(spec.id)


async def test_a_fork_finds_the_volumes_that_its_mold_did_not_have(forking: Engine) -> None:
    """As many as there are slots, read-only ones too; they stay over a sleep and a boot from disk."""
    if not forking.capabilities.fork_volumes:
        pytest.skip(f"with the engine {forking.name}, sandboxes with volumes boot")
    names = ("one", "two", "three")
    for name in names:
        await forking.volumes.create(name, VOLUME_MIB)
    mounts = tuple(VolumeAttachment(name, f"/srv/{name}") for name in names)
    spec = new_spec("holder", volumes=mounts)
    machine = await forking.create(spec)
    try:
        assert machine.how == "forked", machine.why
        link = forking.link(spec.id)
        shown = await link.exec(["sh", "-c", "for v in /srv/*; do stat -c '%u %m' $v; echo $v > $v/name; done"])
        assert shown.stdout.decode() == "1000 /srv/one\n1000 /srv/three\n1000 /srv/two\n", shown.stderr
        sizes = await link.exec(["sh", "-c", "cat /sys/block/vd[e-z]/size"])
        assert sizes.stdout.decode().split() == [str(VOLUME_MIB << 11)] * 3
        for memory_kept in (True, False):
            await forking.stop(spec.id, memory=memory_kept)
            started = await forking.start(spec.id)
            assert started.how == ("restored" if memory_kept else "disk-boot")
            names_there = await forking.link(spec.id).exec(["sh", "-c", "cat /srv/*/name"])
            assert names_there.stdout.decode() == "/srv/one\n/srv/three\n/srv/two\n", names_there.stderr
    finally:
        await forking.destroy(spec.id)
    readers = (VolumeAttachment("two", "/srv/two", read_only=True), VolumeAttachment("one", "/srv/one"))
    spec = new_spec("reader", volumes=readers)
    machine = await forking.create(spec)
    try:
        assert machine.how == "forked", machine.why
        link = forking.link(spec.id)
        assert await link.read_file("/srv/two/name") == b"/srv/two\n"
        tried = "mount -o remount,rw /srv/two; echo x > /srv/two/name; cat /sys/block/vde/ro /sys/block/vdf/ro"
        assert (await link.exec(["sh", "-c", tried], user="root")).stdout == b"1\n0\n"
        assert (await link.exec(["sh", "-c", "echo x > /srv/one/more"])).exit_code == 0
        assert await link.read_file("/srv/two/name") == b"/srv/two\n"
    finally:
        await forking.destroy(spec.id)
    for name in names:
        await forking.volumes.remove(name)


async def test_a_sandbox_with_volumes_boots_where_a_fork_could_not_have_them(forking: Engine) -> None:
    if forking.capabilities.fork_volumes:
        pytest.skip(f"with the engine {forking.name}, forks have volumes")
    await forking.volumes.create("data", VOLUME_MIB)
    spec = new_spec("holder", volumes=(VolumeAttachment("data", "/data"),))
    try:
        machine = await forking.create(spec)
        assert machine.how == "booted"
        assert "volumes" in machine.why
        assert (await forking.link(spec.id).exec(["sh", "-c", "echo x > /data/x"])).exit_code == 0
    finally:
        await forking.destroy(spec.id)
    await forking.volumes.remove("data")


async def test_a_fork_that_was_told_the_time_late_is_told_it_again(
    forking: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a guest hardly gets to run, its identity arrives seconds after it was made."""
    made = ForkingVm._identity

    def late(machine: ForkingVm, plug: Plug, generation: int, *, moves: bool) -> Identity:
        identity = made(machine, plug, generation, moves=moves)
        return identity.replace(clock_ns=identity.clock_ns - 10**11)

    monkeypatch.setattr(ForkingVm, "_identity", late)
    monkeypatch.setattr(fork, "CLOCK_SLACK_S", 0)
    spec = new_spec("late", owner="usr_late")  # nobody's, for whom nothing waits in the pool
    assert (await forking.create(spec)).how == "forked"
    try:
        assert await memory.clock_error_s(forking.link(spec.id)) < 1
    finally:
        await forking.destroy(spec.id)


async def test_sandboxes_of_different_owners_cannot_reach_each_other(
    forking: Engine, fork_settings: Settings, twins: tuple[Sandbox, Sandbox]
) -> None:
    alias = bridge_alias(instance_of(fork_settings.state_dir))
    before = set(await anyio.to_thread.run_sync(bridges_called, alias))
    spec = new_spec("stranger", owner="usr_stranger")
    machine = await forking.create(spec)
    try:
        stranger = Sandbox(spec, machine, forking.link(spec.id))
        assert set(await anyio.to_thread.run_sync(bridges_called, alias)) > before
        twin = dataclasses.replace(twins[0], link=forking.link(twins[0].spec.id))
        for source, target in ((stranger, twin), (twin, stranger)):
            ping = ["ping", "-c", "1", "-W", "1", str(target.machine.address)]
            assert (await source.link.exec(ping, timeout_s=20)).exit_code == 1
        route = await stranger.link.exec(["ip", "-4", "route", "show", "default"])
        gateway = route.stdout.split()[2].decode()
        assert (await stranger.link.exec(["ping", "-c", "1", "-W", "5", gateway], timeout_s=20)).exit_code == 0
        await forking.stop(spec.id)
        assert (await forking.start(spec.id)).address == machine.address
    finally:
        await forking.destroy(spec.id)
    assert set(await anyio.to_thread.run_sync(bridges_called, alias)) == before
