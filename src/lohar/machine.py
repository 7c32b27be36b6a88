"""What makes this machine this one: name, id, clock, randomness; and its end.

Used at boot, and again when a forked guest is given an identity of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time

from lohar import mounts
from lohar.netconf import apply_hosts, replace_file

_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
MAX_ENTROPY_BYTES = 4096

GRACE_S = 2.0
"""How long programs may take to end when the machine does: a database needs a moment, whoever waits is a person."""

KILL_WAIT_S = 1.0
"""Ending a killed process takes milliseconds; one that is stuck in the kernel must not keep the machine on."""

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


def power_off(*, grace_s: float = GRACE_S) -> None:
    """End the machine: ask all processes to end, make them after `grace_s`, write everything to the disks.

    Raises `PermissionError` in any process but PID 1, before it has done anything. Where there is no ACPI to switch the
    power off, the machine is reset instead: engines run guests without restart, so that this ends them too.
    """
    if os.getpid() != 1:
        raise PermissionError("only the machine's first process can end the machine")
    _end_processes(grace_s)
    mounts.release_volumes()
    os.sync()
    import ctypes

    command = _RB_POWER_OFF if os.path.isdir("/sys/firmware/acpi") else _RB_AUTOBOOT
    libc = ctypes.CDLL(None, use_errno=True)
    libc.reboot(ctypes.c_int(command - (1 << 32) if command >> 31 else command))
    number = ctypes.get_errno()
    raise PermissionError(number, f"cannot power off: {os.strerror(number)}")


def _end_processes(grace_s: float) -> None:
    """Send SIGTERM to everything else, reap for at most `grace_s` seconds, then SIGKILL what is left and reap that."""
    awaited = {signal.SIGCHLD, signal.SIGALRM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while _reap() and signal.sigwait(awaited) != signal.SIGALRM:
            pass


def _reap() -> bool:
    """Collect the children that have ended and say whether there are others; all processes end up as our children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
