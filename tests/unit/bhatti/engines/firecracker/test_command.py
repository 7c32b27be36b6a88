import dataclasses
from pathlib import Path

import pytest

from bhatti.engines.firecracker import api_types as types
from bhatti.engines.firecracker import command
from bhatti.engines.firecracker.settings import FirecrackerSettings, Limits
from bhatti.engines.qemu.command import Drive, Hardware, TapCard
from bhatti.engines.qemu.files import MachineFiles
from bhatti.images import initramfs

CARD = TapCard("bht0", "06:b4:0a:00:02:0f")
FREE = Limits()
SETTINGS = FirecrackerSettings(state_dir=Path("/s"), images_dir=Path("/i"))


@pytest.fixture
def machine(tmp_path: Path) -> Hardware:
    return Hardware(
        binary="/usr/bin/firecracker",
        name="bhatti-s1",
        accelerator="kvm",
        cpus=2,
        memory_mib=256,
        memory_file=tmp_path / "ram",
        kernel=tmp_path / "kernel",
        initramfs=tmp_path / "initramfs",
        kernel_arguments="console=ttyS0 quiet",
        drives=(Drive(tmp_path / "base", True), Drive(tmp_path / "layer", False)),
        card=CARD,
        console=tmp_path / "console.log",
    )


def test_a_name_has_only_what_firecracker_allows_and_says_whose_it_is() -> None:
    name = command.instance_name(MachineFiles(Path("/srv/b/sandboxes/.golden-ümlaut")))
    assert name.replace("-", "").isalnum()
    assert name.isascii()
    assert len(name) <= 64
    assert name.startswith(command.name_prefix(Path("/srv/b")))
    assert not name.startswith(command.name_prefix(Path("/srv/c")))
    assert name != command.instance_name(MachineFiles(Path("/srv/b/sandboxes/other")))


def test_it_works_in_the_machines_own_directory() -> None:
    files = MachineFiles(Path("/srv/b/sandboxes/s1"))
    line = command.command_line("/usr/bin/firecracker", files, socket="api.sock", log=files.log)
    assert line[:4] == [command.ENV, "-C", "/srv/b/sandboxes/s1", "/usr/bin/firecracker"]
    assert line[line.index("--api-sock") + 1] == "api.sock"
    assert line[line.index("--id") + 1] == command.instance_name(files)


def test_what_a_snapshot_names_are_names_in_that_directory(machine: Hardware) -> None:
    drives = command.drives(machine, FREE)
    assert [drive.path_on_host for drive in drives] == ["vda", "vdb"]
    assert command.links(machine) == {"vda": machine.drives[0].path, "vdb": machine.drives[1].path}
    load = command.snapshot_load(CARD, state=command.STATE, memory=command.MEMORY)
    assert (load.snapshot_path, load.mem_backend.backend_path) == ("state", "ram")
    files = MachineFiles(Path("/m"))
    assert (files.state.name, files.memory.name) == (command.STATE, command.MEMORY)


def test_only_drives_that_can_be_written_are_flushed(machine: Hardware) -> None:
    drives = command.drives(machine, FREE)
    assert [(drive.is_read_only, drive.cache_type) for drive in drives] == [(True, "Unsafe"), (False, "Writeback")]


def test_empty_slots_are_no_drives(machine: Hardware) -> None:
    assert len(command.drives(machine.with_slots(), FREE)) == 2
    assert len(command.links(machine.with_slots())) == 2


def test_changes_of_memory_are_counted_from_the_start(machine: Hardware) -> None:
    configuration = command.machine_configuration(machine)
    assert (configuration.vcpu_count, configuration.mem_size_mib) == (2, 256)
    assert configuration.track_dirty_pages
    assert command.snapshot_load(CARD, state="state", memory="ram").track_dirty_pages


def test_the_card_is_on_the_tap_that_there_is_now(machine: Hardware) -> None:
    assert command.network_interface(CARD, FREE).host_dev_name == "bht0"
    (override,) = command.snapshot_load(TapCard("bht1", CARD.mac), state="state", memory="ram").network_overrides
    assert (override.iface_id, override.host_dev_name) == (command.CARD, "bht1")


def test_the_kernel_boots_with_its_arguments(machine: Hardware) -> None:
    source = command.boot_source(machine, SETTINGS)
    assert source.boot_args == f"{machine.kernel_arguments} bhatti.modules=virtio_rng"
    assert (source.kernel_image_path, source.initrd_path) == (str(machine.kernel), str(machine.initramfs))


def test_devices_that_are_not_always_there_bring_their_drivers(machine: Hardware) -> None:
    settings = dataclasses.replace(SETTINGS, balloon=True, vsock=True)
    modules = command.boot_source(machine, settings).boot_args.rpartition("bhatti.modules=")[2].split(",")
    assert modules == ["virtio_rng", "vmw_vsock_virtio_transport", "virtio_balloon"]
    assert set(modules) <= set(initramfs.MODULES)
    balloon = command.balloon()
    assert (balloon.amount_mib, balloon.deflate_on_oom, balloon.free_page_reporting) == (0, True, True)
    assert balloon.stats_polling_interval_s > 0
    assert command.vsock().uds_path == "vsock/agent.sock"


def test_drives_that_can_be_written_are_limited_and_only_as_far_as_is_said(machine: Hardware) -> None:
    base, layer = command.drives(machine, Limits(disk_mib_per_s=10, net_mib_per_s=5))
    assert base.rate_limiter is None
    assert layer.rate_limiter == types.RateLimiter(bandwidth=types.TokenBucket(size=10 << 20, refill_time=1000))
    assert [drive.rate_limiter for drive in command.drives(machine, FREE)] == [None, None]


def test_the_network_is_limited_in_both_directions() -> None:
    card = command.network_interface(CARD, Limits(disk_ops_per_s=7, net_packets_per_s=100))
    limiter = types.RateLimiter(ops=types.TokenBucket(size=100, refill_time=1000))
    assert (card.rx_rate_limiter, card.tx_rate_limiter) == (limiter, limiter)
    assert command.network_interface(CARD, FREE).rx_rate_limiter is None


def test_of_its_memory_is_shown_what_the_guest_has_said() -> None:
    said = types.BalloonStatistics(total_memory=200 << 20, free_memory=(100 << 20) + 5, disk_caches=0)
    assert command.guest_memory(said) == {"guest_total_mib": "200", "guest_free_mib": "100", "guest_cached_mib": "0"}
    assert command.guest_memory(types.BalloonStatistics()) == {}


def test_it_logs_and_counts_where_it_is_told() -> None:
    files = MachineFiles(Path("/m"))
    line = command.command_line("fc", files, socket="s", log=files.log, level="debug", metrics=Path("/m/metrics"))
    assert line[line.index("--level") + 1] == "Debug"
    assert line[line.index("--metrics-path") + 1] == "/m/metrics"
    assert "--metrics-path" not in command.command_line("fc", files, socket="s", log=files.log)
