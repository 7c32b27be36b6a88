import dataclasses
import re
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import HANG, stub_guest
from tests.unit.bhatti.engines.qemu.test_record import SPEC

from bhatti.engines.qemu import plan
from bhatti.engines.qemu.command import TapCard, command_line
from bhatti.engines.qemu.files import MachineFiles, make_disk
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.settings import QemuSettings

PLUG = Plug(
    TapCard("bht0", "06:b4:0a:09:08:02"),
    IPv4Address("10.9.8.2"),
    IPv4Address("10.9.8.1"),
    IPv4Address("255.255.255.0"),
    ("1.1.1.1",),
)


@pytest.fixture
def host(tmp_path: Path, qemu: str) -> QemuHost:
    return open_host(QemuSettings(state_dir=tmp_path, images_dir=tmp_path, accelerator="tcg", network="user"))


def test_drives_are_in_the_order_that_guests_expect(tmp_path: Path, host: QemuHost) -> None:
    files = MachineFiles(tmp_path)
    boot = stub_guest(tmp_path, HANG)
    volume = tmp_path / "data.ext4"
    hardware = plan.plan_hardware(host, SPEC, files, boot, [volume], PLUG)
    assert [drive.path for drive in hardware.drives] == [boot.base, boot.agent, files.config, files.layer, volume]
    assert [drive.read_only for drive in hardware.drives] == [True, True, True, False, True]


def test_the_guest_is_told_its_address_and_that_it_is_emulated(tmp_path: Path, host: QemuHost) -> None:
    hardware = plan.plan_hardware(host, SPEC, MachineFiles(tmp_path), stub_guest(tmp_path, HANG), [tmp_path], PLUG)
    words = hardware.kernel_arguments.split()
    assert "ip=10.9.8.2::10.9.8.1:255.255.255.0:box:eth0:off:1.1.1.1:" in words
    assert "mitigations=off" in words
    assert (hardware.cpus, hardware.memory_mib, hardware.name) == (2, 512, f"bhatti-{tmp_path.name}")


def test_no_secret_is_on_the_command_line(tmp_path: Path, host: QemuHost) -> None:
    spec = msgspec.structs.replace(SPEC, token="swordfish", env={"PASSWORD": "xyzzy"})
    hardware = plan.plan_hardware(host, spec, MachineFiles(tmp_path), stub_guest(tmp_path, HANG), [tmp_path], PLUG)
    assert not {"swordfish", "xyzzy"} & set(re.findall(r"\w+", " ".join(command_line(hardware))))


def test_files_are_bounded_by_the_largest_that_is_due(tmp_path: Path, host: QemuHost) -> None:
    files = MachineFiles(tmp_path)
    make_disk(files, 1024)
    hardware = plan.plan_hardware(host, SPEC, files, stub_guest(tmp_path, HANG), [tmp_path], PLUG)
    assert plan.largest_file_bytes(hardware) == 1024 << 20
    with_state = (2048 + plan.STATE_MIB) << 20
    assert plan.largest_file_bytes(dataclasses.replace(hardware, memory_mib=2048)) == with_state


def test_the_same_machine_can_be_made_again_and_waits_for_its_state(tmp_path: Path, host: QemuHost) -> None:
    files = MachineFiles(tmp_path)
    hardware = plan.plan_hardware(host, SPEC, files, stub_guest(tmp_path, HANG), [tmp_path], PLUG)
    again = plan.same_hardware(host, SPEC, files, plan.frame_of(hardware), PLUG)
    assert again == dataclasses.replace(hardware, incoming=True)
    assert command_line(again) == [*command_line(hardware), "-incoming", "defer"]
