import dataclasses
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.conftest import StartQemu

from bhatti.engines.qemu.accelerator import Accelerator
from bhatti.engines.qemu.command import (
    FIRST_SLOT,
    VOLUME_SLOTS,
    Drive,
    Hardware,
    TapCard,
    UserCard,
    command_line,
    machine_type,
)
from bhatti.engines.qemu.qmp import Monitor

USER = UserCard(IPv4Address("10.0.2.15"), "06:b4:0a:00:02:0f", forwards=(1024, 1025))


@pytest.fixture
def machine(tmp_path: Path, qemu: str) -> Hardware:
    for name in ("kernel", "initramfs", "base", "layer, one"):
        (tmp_path / name).write_bytes(bytes(4096))
    return Hardware(
        binary=qemu,
        name="bhatti-s1",
        accelerator="tcg",
        cpus=2,
        memory_mib=256,
        memory_file=tmp_path / "ram",
        kernel=tmp_path / "kernel",
        initramfs=tmp_path / "initramfs",
        kernel_arguments="console=ttyS0 quiet",
        drives=(Drive(tmp_path / "base", True), Drive(tmp_path / "layer, one", False)),
        card=USER,
        console=tmp_path / "console.log",
    )


def value_of(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_the_same_machine_has_the_same_command_line(machine: Hardware) -> None:
    assert command_line(machine) == command_line(dataclasses.replace(machine))


def test_memory_is_a_shared_file_so_that_snapshots_need_not_copy_it(machine: Hardware) -> None:
    command = command_line(machine)
    assert f"memory-backend-file,id=ram0,size=256M,mem-path={machine.memory_file},share=on" in command
    assert value_of(command, "-machine").startswith("q35,memory-backend=ram0,")


def test_private_memory_leaves_the_file_as_it_is(machine: Hardware) -> None:
    command = command_line(dataclasses.replace(machine, private=True))
    assert f"mem-path={machine.memory_file},share=off" in value_of(command, "-object")


def test_a_machine_waits_for_its_state_if_told_so(machine: Hardware) -> None:
    assert "-incoming" not in command_line(machine)
    assert value_of(command_line(dataclasses.replace(machine, incoming=True)), "-incoming") == "defer"


def test_commas_in_paths_are_not_options(machine: Hardware) -> None:
    assert any(part.endswith("layer,, one") for part in command_line(machine))


def test_shared_drives_cannot_be_written(machine: Hardware) -> None:
    drives = [part for part in command_line(machine) if part.startswith("driver=raw")]
    assert ["read-only=on" in drive for drive in drives] == [True, False]


def test_microvm_is_for_kvm_alone(machine: Hardware) -> None:
    assert machine_type("tcg") == "q35"
    command = command_line(dataclasses.replace(machine, accelerator="kvm"))
    assert value_of(command, "-machine").startswith("microvm,")
    assert value_of(command, "-cpu") == "host"


def test_a_tap_is_named_and_no_script_is_run(machine: Hardware) -> None:
    command = command_line(dataclasses.replace(machine, card=TapCard("bht0123", "06:b4:0a:09:08:02")))
    assert value_of(command, "-netdev") == "tap,id=net0,ifname=bht0123,script=no,downscript=no"


def test_the_user_network_forwards_from_loopback_alone(machine: Hardware) -> None:
    netdev = value_of(command_line(machine), "-netdev")
    assert "hostfwd=tcp:127.0.0.1:0-10.0.2.15:1024" in netdev
    assert "restrict" not in netdev
    closed = dataclasses.replace(machine, card=dataclasses.replace(USER, outside=False))
    assert "restrict=on" in value_of(command_line(closed), "-netdev")


def test_later_drives_are_volumes(machine: Hardware) -> None:
    many = dataclasses.replace(machine, drives=tuple(Drive(Path(f"/d{n}"), True) for n in range(6)))
    names = [part.rpartition("serial=")[2] for part in command_line(many) if "serial=" in part]
    assert names == ["base", "agent", "config", "layer", "volume0", "volume1"]


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
@pytest.mark.parametrize("card", [USER, dataclasses.replace(USER, outside=False)])
@pytest.mark.anyio
async def test_qemu_accepts_the_command_line(
    start_qemu: StartQemu, machine: Hardware, card: UserCard, accelerator: Accelerator, tmp_path: Path
) -> None:
    """Everything but the kernel, which is an empty file here, is built by the real QEMU, sandboxed.

    Where there is no KVM, emulation takes its place in the command line for it.
    """
    command = command_line(dataclasses.replace(machine.with_slots(), card=card, accelerator=accelerator))
    command = [{"kvm": "tcg", "host": "max"}.get(part, part) for part in command]
    start = command.index("-nodefaults")
    without = {"-kernel": 2, "-initrd": 2, "-append": 2, "-chardev": 2, "-mon": 2, "-serial": 2}
    arguments, rest = ["-S"], command[start:]
    while rest:
        skip = without.get(rest[0], 0)
        if not skip:
            arguments.append(rest[0])
        rest = rest[skip or 1 :]
    await start_qemu(*arguments)
    async with await Monitor.connect(tmp_path / "qmp.sock", timeout_s=10) as monitor:
        blocks = await monitor.execute("query-named-block-nodes")
        memory = await monitor.execute("query-memdev")
    assert isinstance(blocks, list)
    assert {"base", "agent", "config"} <= {block["node-name"] for block in blocks}
    assert isinstance(memory, list)
    assert (memory[0]["id"], memory[0]["size"], memory[0]["share"]) == ("ram0", 256 << 20, True)


def test_a_slot_is_an_empty_disk_that_no_file_is_needed_for(machine: Hardware) -> None:
    base = dataclasses.replace(machine, drives=(machine.drives[0],) * FIRST_SLOT)
    command = command_line(base.with_slots())
    slots = [part for part in command if part.startswith("driver=null-co")]
    assert [part.split(",")[1] for part in slots] == [f"node-name=volume{n}" for n in range(VOLUME_SLOTS)]
    assert sum(part.startswith("virtio-blk-pci") for part in command) == FIRST_SLOT + VOLUME_SLOTS
