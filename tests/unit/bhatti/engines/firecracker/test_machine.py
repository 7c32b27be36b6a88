"""The host's side of a machine, with the real Firecracker and without a guest; guests are in tests/conformance."""

import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest
from tests.firecracker import need_groups, need_jailer
from tests.unit.bhatti.engines.qemu.stub import SPEC, StubImages

from bhatti.engines.firecracker import cgroups, command, jail, machine
from bhatti.engines.firecracker.api_types import BalloonStatistics
from bhatti.engines.firecracker.machine import FirecrackerMachine
from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits, Limits
from bhatti.engines.qemu import network, probe_guest
from bhatti.engines.qemu.accelerator import Verdict, device_obstacle
from bhatti.engines.qemu.command import Drive, Hardware, TapCard
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.process import Exit, VmProcess, processes_with
from bhatti.engines.qemu.record import host_boot_id, read_record
from bhatti.errors import EngineFailure, MissingDependency, Unavailable
from bhatti.model.sandbox import Status, Temperature
from bhatti.net.abilities import bridge_ability
from bhatti.net.instance import instance_of
from bhatti.net.tap import create_tap, delete_tap

pytestmark = pytest.mark.anyio

CARD = TapCard("bhatti-no-tap", "06:b4:0a:00:02:0f")


LIMITED = JailLimits(cpu_percent=50, memory_spare_mib=64, tasks=32)


def able_to_limit() -> bool:
    try:
        cgroups.find_groups()
    except MissingDependency:
        return False
    return True


def groups_of(host: QemuHost) -> list[Path]:
    """Return all control groups of machines of this state directory, with the one of all of them."""
    group = command.group_name(host.settings.state_dir)
    found = [path / group for path, _, _ in cgroups.mounted()]
    return [entry for path in found for entry in (path, *path.glob("*/")) if entry.is_dir()]


@pytest.fixture(params=["free", "jailed"])
def host(firecracker: str, tmp_path: Path, request: pytest.FixtureRequest) -> QemuHost:
    # Everything that can be asked for is, so that each test sees the real one take it.
    settings = FirecrackerSettings(
        state_dir=tmp_path,
        images_dir=tmp_path,
        binary=firecracker,
        network="user",
        log_level="debug",
        metrics=True,
        jailer=need_jailer(firecracker) if request.param == "jailed" else "",
        jail_limits=LIMITED if request.param == "jailed" and able_to_limit() else JailLimits(),
        balloon=True,
        vsock=True,
        limits=Limits(disk_mib_per_s=100, disk_ops_per_s=1000, net_mib_per_s=100, net_packets_per_s=10000),
    )
    settings.sandboxes_dir.mkdir()
    return QemuHost(
        settings=settings,
        binary=firecracker,
        version="1.16.1",
        verdict=Verdict(accelerator="kvm", reason="not needed here"),
        networks=network.choose_networks(settings),
        images=StubImages(tmp_path, b"\xf4"),
        boot_id=host_boot_id(),
        engine="firecracker",
    )


@pytest.fixture
async def made(host: QemuHost) -> AsyncIterator[FirecrackerMachine]:
    """A machine of which there is a directory and a record."""
    found = FirecrackerMachine.new(host, SPEC)
    found._make_directory()
    yield found
    await found.remove()
    assert [path for path in groups_of(host) if path.name == command.instance_name(found.files)] == []
    cgroups.sweep(command.group_name(host.settings.state_dir))
    assert groups_of(host) == []
    assert processes_with(command.name_prefix(host.settings.state_dir), host.settings.sandboxes_dir) == []
    assert list(host.settings.sandboxes_dir.iterdir()) == []


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """Whatever is made is for its owner alone, as with many a daemon."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def own_tap(tmp_path: Path) -> Iterator[TapCard]:
    """A card on a tap of this test's own."""
    instance = instance_of(tmp_path)
    if not bridge_ability().able:
        pytest.skip(f"needs a tap: {bridge_ability().reason}")
    yield TapCard(create_tap(instance, "s1"), CARD.mac)
    delete_tap(instance, "s1")


def hardware(made: FirecrackerMachine, *, incoming: bool) -> Hardware:
    boot = made._host.images.boot_files("stub")
    made.files.layer.write_bytes(bytes(4096))
    return Hardware(
        binary=made._host.binary,
        name="box",
        accelerator="kvm",
        cpus=1,
        memory_mib=128,
        memory_file=made.files.memory,
        kernel=boot.kernel,
        initramfs=boot.initramfs,
        kernel_arguments="quiet",
        drives=(Drive(boot.base, True), Drive(made.files.layer, False)),
        card=CARD,
        console=made.files.console,
        incoming=incoming,
    )


def plain(settings: FirecrackerSettings) -> FirecrackerSettings:
    return dataclasses.replace(settings, balloon=False, vsock=False)


async def launch(made: FirecrackerMachine) -> None:
    await made._launch(hardware(made, incoming=True), IPv4Address("10.0.2.15"))


async def test_a_machine_that_waits_for_a_snapshot_is_known_by_its_record(made: FirecrackerMachine) -> None:
    await launch(made)
    record = read_record(made.files.directory)
    assert record is not None
    assert made._process is not None
    assert record.pid == made._process.identity.pid
    assert record.frame is not None
    assert record.frame.drives == (
        (str(made._host.images.boot_files("stub").base), True),
        (str(made.files.layer), False),
    )
    assert (made.files.directory / "vdb").resolve() == made.files.layer
    assert await made._temperature("why") == (Temperature.HOT, "why")


async def test_a_machine_whose_image_is_gone_is_refused_before_it_boots(made: FirecrackerMachine) -> None:
    wanted = hardware(made, incoming=False)
    made._host.images.boot_files("stub").base.unlink()
    with pytest.raises(EngineFailure, match="refused PUT /drives/vda"):
        await made._launch(wanted, IPv4Address("10.0.2.15"))


async def test_a_machine_is_described_with_all_that_can_be_asked_for(
    made: FirecrackerMachine, own_tap: TapCard
) -> None:
    wanted = dataclasses.replace(hardware(made, incoming=False), card=own_tap)
    wanted.kernel.write_bytes(probe_guest.elf())
    await made._launch(wanted, IPv4Address("10.0.2.15"))
    assert (await made._api.info()).state == "Not started"
    assert (made.files.directory / machine.METRICS).stat().st_mode & 0o777 == 0o600
    # Refusals and answers are on a higher level than what it says by itself.
    assert "network-interfaces" in made._log.read_text()


async def test_a_halted_guest_goes_through_all_that_its_memory_can(
    made: FirecrackerMachine, own_tap: TapCard, tmp_path: Path, narrow_umask: None
) -> None:
    if device_obstacle() is not None:
        pytest.skip(f"needs KVM: {device_obstacle()}")
    wanted = dataclasses.replace(hardware(made, incoming=False), card=own_tap)
    # It does nothing at all, which even a KVM does that can run no real guest.
    wanted.kernel.write_bytes(probe_guest.elf(b"\xf4\xeb\xfd"))
    await made._launch(wanted, IPv4Address("10.0.2.15"))
    await made._run()
    # It has a balloon, and no guest that would tell of its memory.
    assert await made._api.balloon_statistics() == BalloonStatistics()
    await made._halt()
    copy = MachineFiles(tmp_path / "copy")
    copy.directory.mkdir()
    made.files.config.write_bytes(bytes(4096))
    await made._save_as_copy(copy)
    await made._save(made.files)
    await made._let_go()
    for source in (made.files, copy):
        assert {path.stat().st_mode & 0o077 for path in (source.state, source.memory)} == {0}
        assert await made._probe(dataclasses.replace(wanted, incoming=True), with_memory=True) is None
        await made._launch(dataclasses.replace(wanted, incoming=True), IPv4Address("10.0.2.15"))
        await made._load(source, with_memory=True)
        assert await made._temperature("why") == (Temperature.WARM, "why")
        assert made.record.tracked is (source is made.files)
        assert not list(made.files.directory.glob(f"{jail.BROUGHT}.*"))
        await made._run()
        await made._halt()
        await made._save(made.files)
        await made._let_go()


async def test_an_agent_is_reached_over_vsock_wherever_its_machine_has_that(
    made: FirecrackerMachine, own_tap: TapCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device_obstacle() is not None:
        pytest.skip(f"needs KVM: {device_obstacle()}")
    wanted = dataclasses.replace(hardware(made, incoming=False), card=own_tap)
    wanted.kernel.write_bytes(probe_guest.elf(b"\xf4\xeb\xfd"))
    await made._launch(wanted, IPv4Address("10.0.2.15"))
    await made._run()
    agent = made.files.directory / command.AGENT
    link = made._open_link()
    # The device is asked for the agent's port, and the guest, which halts, has nobody who would answer.
    with pytest.raises(Unavailable, match=f"vsock:{agent}"):
        await link.wait_ready(timeout_s=0.5)
    await made._halt()
    await made._save(made.files)
    await made._let_go()
    # Nobody wants one any more, but the snapshot has it.
    monkeypatch.setattr(made, "_host", dataclasses.replace(made._host, settings=plain(made._settings)))
    await made._launch(dataclasses.replace(wanted, incoming=True), IPv4Address("10.0.2.15"))
    assert not agent.exists()
    await made._load(made.files, with_memory=True)
    assert agent.is_socket()
    monkeypatch.setattr(machine, "LONGEST_PATH", 10)
    with pytest.raises(Unavailable, match="tcp:"):
        await made._open_link().wait_ready(timeout_s=0.5)


async def test_a_jail_is_another_user_in_another_root_and_leaves_nothing(made: FirecrackerMachine) -> None:
    if not made._settings.jailer:
        pytest.skip("is about the jail")
    await launch(made)
    assert made._process is not None
    proc = Path(f"/proc/{made._process.identity.pid}")
    user = str(jail.user_of(command.instance_name(made.files)))
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {user}
    assert int(status["CapEff"], 16) == 0
    assert not (proc / "root" / "etc").exists()
    mounts = Path("/proc/self/mountinfo")
    assert str(made.files.directory) in (proc / "mountinfo").read_text()
    mounted = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    for name in ("base", "kernel", "initramfs"):
        path = str(made._host.settings.images_dir / name)
        assert ["ro" in words[5].split(",") for words in mounted if words[4].endswith(path)] == [True]
    assert str(made.files.directory) not in await anyio.Path(mounts).read_text()
    assert list((made.files.directory / jail.BASE).iterdir()) == []
    os.kill(made._process.identity.pid, signal.SIGKILL)
    await made._process.wait()
    assert str(made.files.directory) not in await anyio.Path(mounts).read_text()


async def test_a_jail_has_the_limits_that_were_set_and_takes_its_groups_along(made: FirecrackerMachine) -> None:
    if not made._settings.jailer:
        pytest.skip("is about the jail")
    groups = need_groups()
    await launch(made)
    await made._has_come_up(how="booted", why="", timings_ms={})
    assert made._process is not None
    pid = made._process.identity.pid
    names = ("cpu.cfs_quota_us", "memory.limit_in_bytes") if groups.version == 1 else ("cpu.max", "memory.max")
    limits = {}
    for name in (*names, "pids.max"):
        path = groups.mounts[name.partition(".")[0]] / made._group / command.instance_name(made.files)
        assert str(pid) in (path / "cgroup.procs").read_text().split()
        limits[name] = (path / name).read_text().split()[0]
    assert list(limits.values()) == ["50000", str((128 + 64) << 20), "33"]
    os.kill(pid, signal.SIGKILL)
    await made._process.wait()
    assert (await made.look()).status is Status.FAILED
    assert [path.name for path in groups_of(made._host) if path.name != made._group] == []


async def test_groups_that_nobody_was_there_to_remove_go_with_the_next_sweep(made: FirecrackerMachine) -> None:
    if not made._settings.jailer:
        pytest.skip("is about the jail")
    need_groups()
    await launch(made)
    cgroups.sweep(made._group)
    assert command.instance_name(made.files) in {path.name for path in groups_of(made._host)}
    assert made._process is not None
    # As when an engine is killed, and its machine after it.
    await made._process.end()
    with anyio.fail_after(60):
        while groups_of(made._host):
            cgroups.sweep(made._group)
            await anyio.sleep(0.01)


async def test_a_process_that_dies_while_it_is_told_is_said_to_be_dead(made: FirecrackerMachine) -> None:
    await launch(made)
    assert made._process is not None
    os.kill(made._process.identity.pid, signal.SIGKILL)
    with pytest.raises(EngineFailure, match="died while it booted: firecracker was killed by SIGKILL") as failure:
        await made._while_alive(lambda: made._load(made.files, with_memory=False))
    assert failure.value.code == "boot-failed"


async def test_whoever_looks_at_a_machine_whose_guest_is_off_ends_it(made: FirecrackerMachine) -> None:
    await launch(made)
    await made._has_come_up(how="booted", why="", timings_ms={})
    assert (await made.look()).status is Status.RUNNING
    with made.files.console.open("a") as guest:
        guest.write("[    9.1] reboot: System halted\r\n")
    found = await made.look()
    assert (found.status, found.pid) == (Status.FAILED, None)
    assert found.cause is not None
    assert (found.cause.kind, found.cause.detail) == ("exit", "the guest powered itself off")
    assert "System halted" in found.cause.console_tail
    assert processes_with(command.name_prefix(made._host.settings.state_dir), made._host.settings.sandboxes_dir) == []


async def test_a_snapshot_that_is_damaged_is_not_loaded(made: FirecrackerMachine) -> None:
    await launch(made)
    made.files.state.write_bytes(b"nonsense" * 512)
    made.files.memory.write_bytes(bytes(1 << 20))
    with pytest.raises(EngineFailure):
        await made._while_alive(lambda: made._load(made.files, with_memory=False))
    assert not made.record.tracked


async def test_a_throw_away_process_says_what_is_wrong_and_leaves_nothing(made: FirecrackerMachine) -> None:
    made.files.state.write_bytes(b"nonsense" * 512)
    made.files.memory.write_bytes(bytes(1 << 20))
    before = set(made.files.directory.iterdir())
    found = await made._probe(hardware(made, incoming=True), with_memory=False)
    assert found is not None
    assert found.startswith("it cannot be loaded: ")
    furniture = {made.files.directory / name for name in (jail.BASE, jail.RUN, jail.VSOCK)}
    assert set(made.files.directory.iterdir()) - before - furniture <= {made.files.layer}


async def test_the_next_engine_recognizes_its_machine_and_no_other(made: FirecrackerMachine) -> None:
    await launch(made)
    again = FirecrackerMachine(made._host, made.record, exists=True)
    await again._recognize()
    await again._settled()
    assert made._process is not None
    await made._process.end()
    other = ["/usr/bin/env", "-C", str(made._place), made._host.binary, "--id", "other"]
    (made._place / machine.SOCKET).unlink()
    process = await VmProcess.spawn([*other, "--api-sock", machine.SOCKET], log=made.files.console)
    try:
        with pytest.raises(EngineFailure) as failure:
            await again._recognize()
        assert failure.value.code == "not-ours"
    finally:
        await process.end()


async def test_a_machine_whose_api_is_silent_counts_as_running(made: FirecrackerMachine) -> None:
    temperature, why = await made._temperature("why")
    assert temperature is Temperature.HOT
    assert why.startswith("its API does not answer")


async def test_of_a_machine_that_has_no_balloon_nothing_is_told_about_its_memory(made: FirecrackerMachine) -> None:
    await launch(made)
    await made._has_come_up(how="booted", why="", timings_ms={})
    found = await made.look()
    assert (found.status, found.details) == (Status.RUNNING, {})


async def test_a_process_that_was_never_written_down_is_found_by_its_name(made: FirecrackerMachine) -> None:
    await launch(made)
    again = FirecrackerMachine(made._host, made.record, exists=True)
    await again._end_process()
    assert made._process is not None
    await made._process.wait()


@pytest.mark.parametrize("words", ["reboot: Power down", "reboot: System halted"])
async def test_a_guest_that_has_switched_itself_off_is_known_by_its_last_words(
    made: FirecrackerMachine, words: str
) -> None:
    await launch(made)
    assert not made._says_off()
    with made.files.console.open("a") as console:
        console.write(f"[    9.1] {words}\n")
    await made._switched_off()
    with made.files.console.open("a") as console:
        console.write("lohar: ready {}\n")
    assert not made._says_off()


async def test_the_cause_of_a_death_names_the_program(made: FirecrackerMachine) -> None:
    cause = made._cause_of_death(Exit(signal=signal.SIGTERM))
    assert (cause.kind, cause.detail) == ("killed", "firecracker was killed by SIGTERM")
