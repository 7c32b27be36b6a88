"""A control group for every command, so that the kernel can say which command ran out of memory, and end all of it.

Version 2 only (Documentation/admin-guide/cgroup-v2.rst). The groups lie in one directory of ours; where cgroup2 is not
mounted or not writable, commands simply have none. The agent itself stays outside of it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from lohar.wire.messages import OomKill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.loop import Loop

ROOT = "/sys/fs/cgroup"
FOLDER = "bhatti"


RECLAIM_S = 0.05
"""How long a group rests before it is looked at. That takes the kernel a while (reading `cpu.stat` sums up over CPUs:
1.3 ms in an emulated guest), and must not be what the next command waits for."""

MANY = 64
"""Groups from which on one is looked at at once rather than another one made."""


IDLE = 16
"""Empty groups that are kept. The kernel looks through every group before it kills for want of memory: with two hundred
left over from one busy moment that took an emulated guest up to three minutes; without them, three seconds."""


class CommandGroups:
    """Makes the groups, in `folder`. `kernel_log` is a descriptor of /dev/kmsg, or -1; `loop` runs what can wait.

    An empty group is used again for a later command: making one costs several times what entering one does, and one
    that was removed lives on in the kernel for as long as there is a page in the cache that was charged to it.
    """

    def __init__(self, folder: str, kernel_log: int = -1, loop: Loop | None = None) -> None:
        self._folder = folder
        self._kernel_log = kernel_log
        self._loop = loop
        self._made = self._exist = 0
        self._empty: list[CommandGroup] = []
        self._used: list[CommandGroup] = []
        """Groups whose command has ended; background processes of it may live on."""
        self._due = False
        self._victims: dict[str, tuple[str, int]] = {}
        """Whom the kernel chose, by the group as its log names it. One for each group at most, as groups are few."""

    def create(self) -> CommandGroup | None:
        """Return a group without processes; None if the kernel refuses (the command runs all the same)."""
        if not self._empty and self._exist >= MANY:
            self.reclaim()
        if self._empty:
            return self._empty.pop()
        path = f"{self._folder}/c{self._made + 1}"
        try:
            os.mkdir(path)
        except FileExistsError:
            pass  # by an agent before us, which cannot be alive
        except OSError:
            return None
        self._made += 1
        self._exist += 1
        # What runs out of memory is a command as a whole: half a pipeline is no use to anybody.
        with suppress(OSError):
            _write(f"{path}/memory.oom.group", b"1")
        return CommandGroup(self, path)

    def give_back(self, group: CommandGroup) -> None:
        """Take a group back, to be used again some time after its last process has gone."""
        self._used.append(group)
        if self._loop is not None and not self._due:
            self._due = True
            self._loop.call_later(RECLAIM_S, self.reclaim)

    def reclaim(self) -> None:
        """Find the groups that have become empty."""
        self._due = False
        used, self._used = self._used, []
        for group in used:
            (self._empty if group.renew() else self._used).append(group)
        for group in self._empty[IDLE:]:
            # Its path is never used again, so a group that cannot be removed is only one too many.
            with suppress(OSError):
                os.rmdir(group.path)
            self._exist -= 1
        del self._empty[IDLE:]

    def victim(self, path: str) -> tuple[str, int]:
        """Return name and pid of the process that the kernel chose in the group `path`; empty if its log is silent."""
        while self._kernel_log >= 0:
            try:
                record = os.read(self._kernel_log, 8192)
            except BlockingIOError:
                break
            except OSError:
                continue  # EPIPE: records were overwritten before we came; the next read goes on after them
            if not record:
                break
            found = parse_victim(record)
            if found is not None:
                self._victims[found[0]] = found[1:]
        return self._victims.pop(path.removeprefix(os.path.dirname(self._folder)), ("", 0))


class CommandGroup:
    """The group of one command at a time."""

    __slots__ = ("_groups", "_kills_before", "_usec_before", "path")

    def __init__(self, groups: CommandGroups, path: str) -> None:
        self._groups = groups
        self.path = path
        # The kernel counts for the group's whole life, not for that of a command.
        self._kills_before = 0
        self._usec_before = 0
        self.renew()

    def renew(self) -> bool:
        """Forget what was counted so far; True if no process is left, so that another command can have the group."""
        if _read(f"{self.path}/cgroup.procs"):
            return False
        self._kills_before = self._kills()
        self._usec_before = self._usec()
        return True

    def _kills(self) -> int:
        return read_keys(f"{self.path}/memory.events").get("oom_kill", 0)

    def _usec(self) -> int:
        return read_keys(f"{self.path}/cpu.stat").get("usage_usec", 0)

    def add(self, pid: int) -> None:
        """Put a process, and with it its future children, into the group."""
        # A process that has ended already needs no group.
        with suppress(OSError):
            _write(f"{self.path}/cgroup.procs", b"%d" % pid)

    def kill(self) -> None:
        """Kill every process in it, also those that left the command's session (kernel 5.14)."""
        with suppress(OSError):
            _write(f"{self.path}/cgroup.kill", b"1")

    def cpu_ms(self) -> int:
        """Return the CPU time that its processes have used, ended ones included."""
        return (self._usec() - self._usec_before) // 1000

    def oom_kill(self) -> OomKill | None:
        """Return whom the kernel killed in this group for want of memory, or None."""
        if self._kills() == self._kills_before:
            return None
        name, pid = self._groups.victim(self.path)
        return OomKill(victim=name, pid=pid, limit_bytes=self._limit_bytes())

    def _limit_bytes(self) -> int | None:
        folder = os.path.dirname(self.path)
        for path in (self.path, folder):
            limit = read_number(f"{path}/memory.max")
            if limit is not None:
                return limit
        return None

    def close(self) -> None:
        """Give the group up, to be used again when it is empty."""
        self._groups.give_back(self)


def open_groups(root: str = ROOT, kernel_log: str = "/dev/kmsg", loop: Loop | None = None) -> CommandGroups | None:
    """Prepare the directory for commands' groups below `root`; None where cgroup2 is missing or not ours to write."""
    folder = f"{root}/{FOLDER}"
    if not os.path.exists(f"{root}/cgroup.controllers"):
        return None
    try:
        os.makedirs(folder, exist_ok=True)
        for path in (root, folder):
            for controller in ("memory", "cpu", "pids"):
                # Each by itself: one that is missing must not keep the others away.
                with suppress(OSError):
                    _write(f"{path}/cgroup.subtree_control", b"+" + controller.encode())
    except OSError:
        return None
    log = -1
    with suppress(OSError):
        log = os.open(kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(log, 0, os.SEEK_END)
    return CommandGroups(folder, log, loop)


def parse_victim(record: bytes) -> tuple[str, str, int] | None:
    """Find group, name and pid in a record of the kernel's log (`dump_oom_summary` in mm/oom_kill.c).

    `6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,...,task_memcg=/bhatti/c3,task=python3,pid=812,uid=1000`. The lines
    `Killed process` do not say the group, and name also those that a group's kill takes along.
    """
    _, found, rest = record.partition(b"oom-kill:")
    _, _, rest = rest.partition(b",task_memcg=")
    group, _, rest = rest.partition(b",task=")
    name, _, rest = rest.rpartition(b",pid=")
    number = rest.partition(b",")[0]
    if not found or not group or not number.isdigit():
        return None
    return os.fsdecode(group), os.fsdecode(name), int(number)


def read_keys(path: str) -> dict[str, int]:
    """Return a flat keyed file (`oom_kill 1`) as a mapping; empty if it cannot be read."""
    result = {}
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            result[key] = int(value)
    return result


def read_number(path: str) -> int | None:
    """Return the number in a file (`memory.max`); None if there is none in it (`max`) or it cannot be read."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 65536).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
