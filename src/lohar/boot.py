"""Set a machine up as its PID 1, from a bare kernel to the point where the agent can listen.

Everything here happens once, before the first connection, and in one order: file systems, configuration, name,
network, account, volumes, files. A part that fails ends the boot: a sandbox that lacks a volume or a file it was
promised must not look as if it were well. The reason is the last line on the console, which the engine reports.
"""

from __future__ import annotations

import os
import time

from lohar import inject, machine, mounts, netconf, users
from lohar.config import MAX_CONFIG_BYTES, ConfigError, parse
from lohar.wire.records import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.config import AgentConfig

READY = "lohar: ready "
"""Begins the console line that says that the agent listens; the rest is JSON, milliseconds of each part of the boot."""

INJECTED_MARK = "/var/lib/lohar/injected"
"""Says, on the sandbox's own disk, for which identity the files were written: a reboot must not undo later edits."""

MAX_OPEN_FILES = 524_288
SOFT_OPEN_FILES = 8_192
"""The kernel gives its first process 4096 and 1024: too few for an agent with hundreds of connections."""


class BootError(Exception):
    """The machine cannot be set up; the message says which part and why."""


class Timings:
    """When each part of the boot ended, on the clock that starts with the kernel."""

    def __init__(self, initramfs: str) -> None:
        """Begin with what the initramfs noted: `init=0.52 modules=0.75 mounts=0.90`, seconds."""
        self._marks: list[tuple[str, float]] = []
        for item in initramfs.split():
            name, _, seconds = item.partition("=")
            try:
                self._marks.append((_PARTS.get(name, name), float(seconds)))
            except ValueError:
                continue

    def mark(self, part: str) -> None:
        """Note that `part` ends now."""
        self._marks.append((part, time.monotonic()))

    def milliseconds(self) -> dict[str, int]:
        """Return how long each part took, and `total` since the kernel began."""
        result: dict[str, int] = {}
        before = 0.0
        for part, at in self._marks:
            result[part] = result.get(part, 0) + round((at - before) * 1000)
            before = at
        result["total"] = round(before * 1000)
        return result


_PARTS = {"init": "kernel", "modules": "initramfs"}

_timings = Timings("")


def boot() -> AgentConfig:
    """Set the machine up and return what the agent is to be; on failure say why and switch the machine off."""
    global _timings
    _timings = Timings(os.environ.pop("LOHAR_BOOT", ""))
    _timings.mark("python")
    try:
        config = _boot()
    except (BootError, ConfigError, OSError) as error:
        # One line of plain text: the engine shows the console's tail to whoever asked for the sandbox.
        print(f"lohar: boot failed: {error}", flush=True)
        machine.power_off()
        raise
    return config


def _boot() -> AgentConfig:
    mounts.mount_standard()
    raise_limits()
    with open(mounts.mount_config(), "rb") as file:
        config = parse(file.read(MAX_CONFIG_BYTES))
    machine.apply_hostname(config.hostname)
    machine.ensure_machine_id()
    _timings.mark("mounts")
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
        apply_network(config, file.read())
    _timings.mark("network")
    config = users.resolve(config)
    for volume in config.volumes:
        mounts.mount_volume(volume, config.uid, config.gid)
    inject_once(config)
    os.chdir("/")
    os.umask(0o022)
    _timings.mark("setup")
    return config


def apply_network(config: AgentConfig, cmdline: str) -> None:
    """Set up the loopback, the interface that the kernel's command line describes, and the name servers."""
    netconf.bring_up_loopback()
    given = netconf.parse_ip_argument(cmdline)
    if given is not None:
        try:
            netconf.apply_address(given.address, given.netmask, given.gateway, interface=given.interface)
        except OSError as error:
            raise BootError(f"cannot set {given.interface} to {given.address}: {error.strerror}") from error
    netconf.apply_dns(config.dns or (given.dns if given else ()))


def inject_once(config: AgentConfig, *, root: str = "/") -> None:
    """Write the files of `config`, unless they were written for this very identity before."""
    if not config.files:
        return
    path = os.path.join(root, INJECTED_MARK.lstrip("/"))
    identity = f"{config.sandbox_id} {config.generation}\n"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            if file.read() == identity:
                return
    except FileNotFoundError:
        pass
    inject.apply_files(config.files, config.uid, config.gid, root=root)
    netconf.replace_file(path, identity)


def raise_limits() -> None:
    """Allow this process and its children as many open files as on an ordinary server."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_OPEN_FILES, MAX_OPEN_FILES))
    except ValueError:  # in a container that calls itself a machine, the hard limit is somebody else's
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOFT_OPEN_FILES, hard), hard))


def announce_ready() -> None:
    """Write the ready line to the console; call it when both ports listen."""
    _timings.mark("listen")
    print(READY + encode_json(_timings.milliseconds()).decode(), flush=True)


def power_off() -> None:
    """Write everything to the disks and end the machine."""
    machine.power_off()
