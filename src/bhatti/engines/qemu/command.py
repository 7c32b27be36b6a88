"""The command line of a machine, as a pure function of a typed value. Nothing secret is in it: others can read it."""

import dataclasses
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bhatti.engines.qemu.accelerator import Accelerator

MONITOR_FILE = 3
"""The file number at which QEMU inherits the listening socket of its monitor."""

MACHINE_OPTIONS = {
    # The clock chip is the kernel's only way to know the time at boot. PCI because Debian's kernel finds memory-mapped
    # virtio devices through ACPI alone, and so loses what leaving PCI out would gain.
    "microvm": "rtc=on,pcie=on",
    # Nothing that a server without disks, keyboard and mouse would not have: each costs the kernel a probe.
    "q35": "sata=off,smbus=off,hpet=off,vmport=off,i8042=off",
}

SERIAL_NAMES = ("base", "agent", "config", "layer")
"""What the guest sees as the serial numbers of the first four drives; volumes follow as `volume0`, `volume1` …"""


@dataclass(frozen=True, slots=True)
class Drive:
    """A raw image as a virtio disk; without a path, an empty one that a fork may replace by a volume."""

    path: Path | None
    read_only: bool


EMPTY_SLOT = Drive(None, read_only=False)
"""Writable, because a guest's driver that has seen a read-only disk cannot be given another one."""

VOLUME_SLOTS = 4
"""How many volumes a fork can have; each slot is a disk more for a golden machine to find when it boots."""

EMPTY_BYTES = 1 << 20
"""The size of an empty disk; nobody ever sees it."""

FIRST_SLOT = len(SERIAL_NAMES)
"""Where volumes begin in the order of drives."""


@dataclass(frozen=True, slots=True)
class TapCard:
    """A network card on a tap that exists."""

    tap: str
    mac: str


@dataclass(frozen=True, slots=True)
class UserCard:
    """A network card on QEMU's user-mode network.

    `forwards` are guest ports reached from the host's loopback, at ports that the kernel chooses; `outside` says
    whether the guest may open connections at all.
    """

    address: IPv4Address
    mac: str
    forwards: tuple[int, ...]
    outside: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine to be started. Memory is in MiB; paths are absolute.

    With `private`, what the guest writes to its memory stays in its process and the memory file as it is: many
    machines can start from one. With `incoming`, the machine waits for a state to be loaded.
    """

    binary: str
    name: str
    accelerator: Accelerator
    cpus: int
    memory_mib: int
    memory_file: Path
    kernel: Path
    initramfs: Path
    kernel_arguments: str
    drives: tuple[Drive, ...]
    card: TapCard | UserCard
    console: Path
    private: bool = False
    incoming: bool = False

    def with_slots(self) -> "Hardware":
        """Return the same machine with empty disks for the volumes of its forks."""
        return dataclasses.replace(self, drives=(*self.drives, *[EMPTY_SLOT] * VOLUME_SLOTS))

    def mapped_privately(self, memory_file: Path) -> "Hardware":
        """Return the same machine with its memory starting as what is in `memory_file`, which it leaves alone."""
        return dataclasses.replace(self, memory_file=memory_file, private=True)


def machine_type(accelerator: Accelerator) -> str:
    """Return the machine to emulate.

    `microvm` is the smallest, but under emulation its kernel waits for ever for the first timer tick in four boots of
    ten. `q35` always boots; `pc` does too, but slower: its guest interprets a loop for the interrupt of each device.
    """
    return "microvm" if accelerator == "kvm" else "q35"


def command_line(machine: Hardware) -> list[str]:
    """Return the program and its arguments."""
    return [
        machine.binary,
        *("-name", f"guest={machine.name},debug-threads=on"),
        # No devices but those named here, no configuration files, no window, no firmware menu.
        *("-nodefaults", "-no-user-config", "-display", "none"),
        # Stopped until we are connected: a guest that boots keeps the monitor waiting for a third of a second.
        "-S",
        # A guest that reboots or panics ends: what happens next is ours to decide.
        "-no-reboot",
        # What QEMU never needs once it runs, a guest that broke into it must not have either.
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *_processor(machine),
        *_memory(machine),
        *("-kernel", str(machine.kernel), "-initrd", str(machine.initramfs)),
        *("-append", machine.kernel_arguments),
        *("-chardev", f"{console_at(machine.console)},append=on", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={MONITOR_FILE},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
        *("-device", _virtio("virtio-rng", "rng=entropy")),
        *(part for index, drive in enumerate(machine.drives) for part in _drive(index, drive)),
        *_card(machine.card),
        *(("-incoming", "defer") if machine.incoming else ()),
    ]


def _virtio(kind: str, *options: str) -> str:
    """Return a virtio device without the registers of the time before virtio 1.0, which kernels look at first."""
    return ",".join((f"{kind}-pci,disable-legacy=on", *options))


def _processor(machine: Hardware) -> list[str]:
    # Without la57 the emulated processor walks four levels of page tables instead of five. Without erms, kernel and C
    # library clear and copy by words: `rep stosb` is emulated byte by byte, and for each, in a page that held code, the
    # translator looks through all that it made of the page.
    model = "host" if machine.accelerator == "kvm" else "max,la57=off,erms=off"
    return ["-accel", machine.accelerator, "-cpu", model, "-smp", str(machine.cpus)]


def _memory(machine: Hardware) -> list[str]:
    # Memory is a shared mapping of a file, so that a snapshot need not copy it (migration capability x-ignore-shared).
    share = "off" if machine.private else "on"
    file = _escaped(machine.memory_file)
    backend = f"memory-backend-file,id=ram0,size={machine.memory_mib}M,mem-path={file},share={share}"
    kind = machine_type(machine.accelerator)
    kind = f"{kind},memory-backend=ram0,{MACHINE_OPTIONS[kind]}"
    return ["-m", f"{machine.memory_mib}M", "-object", backend, "-machine", kind]


def _drive(index: int, drive: Drive) -> list[str]:
    name = SERIAL_NAMES[index] if index < len(SERIAL_NAMES) else f"volume{index - len(SERIAL_NAMES)}"
    if drive.path is None:
        options = [f"driver=null-co,node-name={name},size={EMPTY_BYTES},read-zeroes=on"]
    else:
        options = [f"driver=raw,node-name={name}", f"read-only={'on' if drive.read_only else 'off'}"]
        if not drive.read_only:
            # Blocks that the guest frees become holes in the file again.
            options.append("discard=unmap,detect-zeroes=unmap")
        options.append(f"file.driver=file,file.filename={_escaped(drive.path)}")
    return ["-blockdev", ",".join(options), "-device", _virtio("virtio-blk", f"drive={name}", f"serial={name}")]


def _card(card: TapCard | UserCard) -> list[str]:
    if isinstance(card, TapCard):
        backend = f"tap,id=net0,ifname={card.tap},script=no,downscript=no"
    else:
        options = ["user,id=net0", "ipv6=off", f"dhcpstart={card.address}"]
        if not card.outside:
            options.append("restrict=on")
        options += [f"hostfwd=tcp:127.0.0.1:0-{card.address}:{port}" for port in card.forwards]
        backend = ",".join(options)
    # Without a ROM: nobody boots from the network.
    return ["-netdev", backend, "-device", _virtio("virtio-net", "netdev=net0", f"mac={card.mac}", "romfile=")]


def console_at(path: Path) -> str:
    """Return how an argument begins that only the process has whose console is at `path`, on the whole host."""
    return f"file,id=console,path={_escaped(path)}"


def _escaped(path: Path) -> str:
    """Return a path as an option's value, in which a comma is written twice."""
    return str(path).replace(",", ",,")
