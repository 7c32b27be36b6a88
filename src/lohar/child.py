"""A command that runs: its process group, how it is ended, and why it did.

A `Child` knows nothing of pipes, terminals or clients. It lives from the spawn until its process was reaped; its group
may live on (background processes), which is nobody's business any more.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from lohar.processes import send_signal, session_members
from lohar.reaper import exit_code
from lohar.wire.messages import ExitInfo, ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.cgroups import CommandGroup
    from lohar.loop import Loop, Timer
    from lohar.reaper import Reaper
    from lohar.wire.messages import OomKill

KILLED = 128 + signal.SIGKILL

GRACE_S = 2.0
"""How long a terminal's program may take to obey KILL's SIGHUP and SIGTERM: a shell needs milliseconds, an editor that
saves a little more; nobody waits longer for something asked to go."""

REPEAT_S = 0.1
"""When SIGHUP is sent again: bash misses the one that comes between its prompt and its read (5 of 25 times measured),
and would sit there until it is killed."""


class Child:
    """A running command. When it has been reaped, `on_reaped` (its register) and `on_exit` (its user) are called."""

    __slots__ = (
        "_forced",
        "_group",
        "_loop",
        "_timers",
        "argv",
        "on_exit",
        "on_reaped",
        "oom",
        "pid",
        "reason",
        "session_id",
        "started_at",
        "status",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, reaper: Reaper, pid: int, argv: tuple[str, ...], group: CommandGroup | None = None
    ) -> None:
        self.pid = pid
        self.argv = argv
        self.session_id = ""
        self.status: int | None = None
        """What waitpid(2) said; None while it runs."""
        self.reason: ExitReason | None = None
        """Why it ended or will; None while nobody has asked for its end."""
        self.oom: OomKill | None = None
        self.on_exit: Callable[[Child], None] | None = None
        self.on_reaped: Callable[[Child], None] | None = None
        self.started_at = time.time()
        self._loop = loop
        self._group = group
        self._timers: list[Timer] = []
        self._forced = False
        reaper.watch(pid, self._ended)

    @property
    def running(self) -> bool:
        """Whether it has not been reaped yet."""
        return self.status is None

    @property
    def group(self) -> CommandGroup | None:
        """Its control group, if this machine gives commands one."""
        return self._group

    @property
    def code(self) -> int:
        """The exit code as shells count: its own, or 128 + signal. 0 while it runs."""
        return 0 if self.status is None else exit_code(self.status)

    def exit_info(self) -> ExitInfo:
        """Return why it ended."""
        status = self.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        return ExitInfo(reason=self.reason or ExitReason.EXITED, signal=number, oom=self.oom)

    def limit(self, timeout_s: float) -> None:
        """Kill it after `timeout_s`, with the reason `timeout`."""
        self._timers.append(self._loop.call_later(timeout_s, self._timed_out))

    def kill(self, reason: ExitReason) -> None:
        """End it and its group for good. The first reason given is the one that counts."""
        if self.running:
            self._forced = self.reason is None
            self.reason = self.reason or reason
            self.signal(signal.SIGKILL)
            if self._group is not None:
                self._group.kill()
                return
            # A shell's jobs have groups of their own, but they are in the session that the spawn made.
            for pid in session_members(self.pid):
                if pid != self.pid:
                    send_signal(pid, signal.SIGKILL)

    def ask_to_end(self, reason: ExitReason) -> None:
        """Hang up on it and ask it to end; after `GRACE_S` it is killed. (SIGTERM alone leaves a shell unmoved.)"""
        if self.running:
            self.reason = self.reason or reason
            self.signal(signal.SIGHUP)
            self.signal(signal.SIGTERM)
            # A stopped process does not see either before it goes on.
            self.signal(signal.SIGCONT)
            self._timers.append(self._loop.call_later(REPEAT_S, lambda: self.signal(signal.SIGHUP)))
            self._timers.append(self._loop.call_later(GRACE_S, lambda: self.kill(reason)))

    def signal(self, number: int) -> None:
        """Send a signal to the group; only while the leader is not reaped, because then its id cannot be another's."""
        if self.running:
            # The group may be empty but for the zombie that is about to be reaped; macOS says EPERM for that.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def ran_out_of_memory(self, oom: OomKill) -> None:
        """Take over that the kernel killed it for want of memory, unless we did it for another reason."""
        if self.reason in (ExitReason.EXITED, ExitReason.SIGNALLED):
            self.oom, self.reason = oom, ExitReason.OOM

    def _timed_out(self) -> None:
        self.kill(ExitReason.TIMEOUT)

    def _ended(self, status: int) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.status = status
        if self._forced and os.WIFEXITED(status):
            self.reason = None  # it ended by itself before our SIGKILL arrived
        # In vain for any other end, as the kernel kills such a group as a whole; asking costs a millisecond.
        if self._group is not None and self.code == KILLED:
            self.oom = self._group.oom_kill()
        if self.reason is None:
            if self.oom is not None:
                self.reason = ExitReason.OOM
            else:
                self.reason = ExitReason.SIGNALLED if os.WIFSIGNALED(status) else ExitReason.EXITED
        if self.on_reaped is not None:
            self.on_reaped(self)
        if self.on_exit is not None:
            self.on_exit(self)
        if self._group is not None:
            self._group.close()
