"""The QEMU process of a machine: started so that it survives us, found again, watched, ended.

A pid alone proves nothing, since it comes back for somebody else. A process is known by pid and start time together;
once known it is held by a pidfd, which never comes to mean another process (pidfd_open(2)).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import anyio

from bhatti.errors import BhattiError, EngineFailure, MissingDependency

QUIT_GRACE_S = 3.0
"""QEMU quits in 20 ms; flushing a slow disk's last writes is what may take longer."""

TERM_GRACE_S = 2.0
"""A QEMU whose main loop hangs does not see SIGTERM either, so there is no point in waiting longer."""

KILL_GRACE_S = 10.0
"""After SIGKILL only the kernel works: it gives back up to gigabytes of memory."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}
"""QEMU needs nothing of the daemon's environment, which may hold secrets."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, unmistakably: `start_time` is in clock ticks since the host's boot (field 22 of proc(5) stat)."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. Only its parent learns `status` or `signal`; after adoption both are None."""

    status: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        """Say it in words."""
        if self.signal is not None:
            return f"killed by {signal.Signals(self.signal).name}"
        if self.status is not None:
            return f"exit status {self.status}"
        return "exit status unknown, as an earlier daemon started it"


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a living process, or None if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from its end.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else ProcessIdentity(pid, int(fields[19]))


def processes_with(prefix: str, place: Path) -> list[ProcessIdentity]:
    """Return the living processes of ours that have an argument beginning with `prefix` on their command line.

    Ours have the root directory that we have: in another one, of a container for instance, the same paths are somebody
    else's. A machine in a jail has its own root, and is ours if a file in `place` that it names is there the one that
    we see.
    """
    wanted, ours = prefix.encode(), Path("/").stat()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if not any(argument.startswith(wanted) for argument in arguments):
                    continue
                theirs = (entry / "root").stat()
            except OSError:
                continue
            shared = os.path.samestat(ours, theirs) or _names_ours(entry, arguments, place)
            if shared and (identity := identify(int(entry.name))) is not None:
                found.append(identity)
    return found


def _names_ours(process: Path, arguments: Sequence[bytes], place: Path) -> bool:
    """Return whether a process in another root names a file in `place` that is the same in both."""
    beginning = os.fsencode(place) + b"/"
    for argument in arguments:
        if argument.startswith(beginning):
            # Links are not followed: an absolute one would lead back to our own root.
            with contextlib.suppress(OSError):
                theirs = os.lstat(os.fsencode(process / "root") + argument)
                if os.path.samestat(theirs, os.lstat(argument)):
                    return True
    return False


class VmProcess:
    """A living or ended process. Made by `spawn` or `adopt`; `aclose` lets go of it without ending it."""

    def __init__(self, identity: ProcessIdentity, pidfd: int) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._exit: Exit | None = None
        self._ended = asyncio.Event()
        self._listeners: list[Callable[[Exit], None]] = []
        asyncio.get_running_loop().add_reader(pidfd, self._on_death)

    @classmethod
    async def spawn(
        cls,
        arguments: Sequence[str],
        *,
        log: Path,
        inherit: Mapping[int, int] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> "VmProcess":
        """Start a program in a session of its own, so that it outlives us and no terminal's signals reach it.

        `log` takes what it prints; `inherit` maps its file numbers to ours; `enter` takes the thread that will start
        it, which ends then, into namespaces that are to be the program's. Raises `MissingDependency` if there is no
        such program, and what `enter` raises. Not to be cancelled halfway: shielded.
        """
        with anyio.CancelScope(shield=True):
            identity, pidfd = await anyio.to_thread.run_sync(_spawn_inside, enter, arguments, log, inherit or {})
        return cls(identity, pidfd)

    @classmethod
    async def adopt(cls, identity: ProcessIdentity) -> "VmProcess | None":
        """Take hold of a process that an earlier daemon started; None if it is gone."""
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        # Asked after opening: from here on the pidfd cannot come to mean another process.
        if await anyio.to_thread.run_sync(identify, identity.pid) != identity:
            os.close(pidfd)
            return None
        return cls(identity, pidfd)

    @property
    def exit(self) -> Exit | None:
        """How it ended, or None while it lives."""
        return self._exit

    def on_death(self, listener: Callable[[Exit], None]) -> None:
        """Call `listener` when the process has ended; at once if it has already."""
        if self._exit is not None:
            listener(self._exit)
        else:
            self._listeners.append(listener)

    async def wait(self) -> Exit:
        """Wait until the process has ended and is reaped. Safe to cancel."""
        await self._ended.wait()
        assert self._exit is not None
        return self._exit

    async def end(self, ask: Callable[[], Awaitable[object]] | None = None) -> str:
        """End the process and return which step of the ladder did it: `gone`, `asked`, `sigterm` or `sigkill`.

        `ask` asks politely (QMP `quit`). Shielded, bounded, idempotent. Raises `EngineFailure` (code `unkillable`) if
        even SIGKILL has no effect, which means that the kernel is stuck in it.
        """
        with anyio.CancelScope(shield=True):
            step = await self._climb(ask)
        if step is None:
            raise EngineFailure(
                f"process {self.identity.pid} does not die of SIGKILL",
                hint="it hangs in the kernel (see /proc/PID/stack); the machine's files are kept",
                code="unkillable",
            )
        return step

    def aclose(self) -> None:
        """Let go of the process, which lives on. Idempotent."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def _climb(self, ask: Callable[[], Awaitable[object]] | None) -> str | None:
        """Go up the ladder until the process is gone; None if it is not gone at the end."""
        if self._ended.is_set():
            return "gone"
        # First ask: QEMU then flushes its disks and removes what it made.
        if ask is not None:
            with anyio.move_on_after(QUIT_GRACE_S):
                # A monitor that refuses or is closed is no reason to wait: the next step needs none.
                with contextlib.suppress(BhattiError):
                    await ask()
                    await self.wait()
            if self._ended.is_set():
                return "asked"
        # Then the signal that QEMU handles like quit, for when the monitor is what is broken.
        self._signal(signal.SIGTERM)
        if await self._wait_at_most(TERM_GRACE_S):
            return "sigterm"
        # Then the one that needs no cooperation. The guest's disk is as after a power cut, which ext4 survives.
        self._signal(signal.SIGKILL)
        return "sigkill" if await self._wait_at_most(KILL_GRACE_S) else None

    async def _wait_at_most(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self.wait()
        return self._ended.is_set()

    def _signal(self, number: signal.Signals) -> None:
        if self._exit is None:
            # It may have ended meanwhile; the watch on the pidfd tells.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_death(self) -> None:
        """Run when the pidfd turns readable, that is at the process' end."""
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._exit = Exit()
        else:
            if result is None:
                return
            if result.si_code == os.CLD_EXITED:
                self._exit = Exit(status=result.si_status)
            else:
                self._exit = Exit(signal=result.si_status)
        self.aclose()
        self._ended.set()
        for listener in self._listeners:
            listener(self._exit)


def _spawn_inside(
    enter: Callable[[], None] | None, arguments: Sequence[str], log: Path, inherit: Mapping[int, int]
) -> tuple[ProcessIdentity, int]:
    if enter is None:
        return _spawn(arguments, log, inherit)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(enter).result()
        return thread.submit(_spawn, arguments, log, inherit).result()


def _spawn(arguments: Sequence[str], log: Path, inherit: Mapping[int, int]) -> tuple[ProcessIdentity, int]:
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    output = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    files = [null, output, (os.POSIX_SPAWN_DUP2, 1, 2)]
    files += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in inherit.items()]
    try:
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            ENVIRONMENT,
            file_actions=files,
            setsid=True,
            setsigmask=[],
            # Python ignores SIGPIPE. SIGXFSZ stays ignored: a console at its limit must not end the machine.
            setsigdef=[signal.SIGPIPE],
        )
    except (FileNotFoundError, PermissionError) as error:
        raise MissingDependency(
            f"cannot run {arguments[0]}: {error.strerror}", hint="apt install qemu-system-x86", code="qemu-missing"
        ) from error
    pidfd = os.pidfd_open(pid)
    # A child that has died already is a zombie until we reap it, so its stat can be read; identify() says None then.
    identity = identify(pid) or ProcessIdentity(pid, 0)
    return identity, pidfd
