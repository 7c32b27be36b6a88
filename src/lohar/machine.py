"""What makes this machine this one: name, id, clock, randomness; and its end.

Used at boot, and again when a forked guest is given an identity of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time

from lohar.netconf import apply_hosts, replace_file

_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
MAX_ENTROPY_BYTES = 4096

_RB_AUTOBOOT = 0x01234567
_RB_POWER_OFF = 0x4321FEDC


def apply_hostname(hostname: str, *, root: str = "/") -> None:
    """Name the machine: in the kernel, in /etc/hostname and in /etc/hosts. `root` is for tests of the files alone."""
    if root == "/":
        socket.sethostname(hostname)
    replace_file(os.path.join(root, "etc/hostname"), f"{hostname}\n")
    apply_hosts(hostname, root=root)


def ensure_machine_id(*, root: str = "/") -> None:
    """Give the machine an id (machine-id(5)) if its disk has none yet."""
    path = os.path.join(root, "etc/machine-id")
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            if len(file.read().strip()) == 32:
                return
    except FileNotFoundError:
        pass
    renew_machine_id(root=root)


def renew_machine_id(*, root: str = "/") -> None:
    """Give the machine a new id: a fork must not share that of the machine it comes from."""
    replace_file(os.path.join(root, "etc/machine-id"), f"{os.urandom(16).hex()}\n")


def set_clock(wall_clock_ns: int) -> None:
    """Set the wall clock (nanoseconds since 1970); raises `PermissionError` outside of a machine of one's own."""
    time.clock_settime_ns(time.CLOCK_REALTIME, wall_clock_ns)


def add_entropy(entropy: bytes) -> None:
    """Mix `entropy` (1 to 4096 bytes) into the kernel's pool and make it use it at once (random(4)).

    Without the second step a fork would go on for minutes with the random numbers of its twin.
    """
    import fcntl

    if not 0 < len(entropy) <= MAX_ENTROPY_BYTES:
        raise ValueError(f"entropy must have 1 to {MAX_ENTROPY_BYTES} bytes, got {len(entropy)}")
    with open("/dev/urandom", "rb", buffering=0) as device:
        request = struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy
        fcntl.ioctl(device.fileno(), _RNDADDENTROPY, request)
        fcntl.ioctl(device.fileno(), _RNDRESEEDCRNG)


def power_off() -> None:
    """Write everything to the disks and end the machine. Returns only outside of one, by raising `PermissionError`.

    Where there is no ACPI to switch the power off, the machine is reset instead: engines run guests without restart, so
    that this ends them too.
    """
    os.sync()
    # Read-only, the file systems are clean and the next boot has no journal to replay.
    with contextlib.suppress(OSError), open("/proc/sysrq-trigger", "w", encoding="ascii") as trigger:
        trigger.write("u")
    command = _RB_POWER_OFF if os.path.isdir("/sys/firmware/acpi") else _RB_AUTOBOOT
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.reboot(ctypes.c_int(command - (1 << 32) if command >> 31 else command))
    number = ctypes.get_errno()
    raise PermissionError(number, f"cannot power off: {os.strerror(number)}")
