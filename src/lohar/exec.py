"""Piped commands: bytes in, two streams of bytes out, an exit code; and commands that are only started."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from lohar.failures import RequestError, system_error
from lohar.operation import Operation
from lohar.pipes import InputPipe, OutputPipe, make_pipe
from lohar.wire.frames import FrameType, encode_exit
from lohar.wire.limits import LIMITS
from lohar.wire.messages import Detached, ExitInfo, ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.child import Child
    from lohar.commands import Commands
    from lohar.connection import Connection
    from lohar.launch import FileAction
    from lohar.loop import Loop, Timer
    from lohar.wire.messages import ExecRequest

QUIET_S = LIMITS.drain_timeout_ms / 1000

LISTEN_S = 0.002
"""How long a new command's output is not waited for. Most commands are over by then; being woken by each of their pipes
and then by their end costs a tenth of what they take, and for the others two milliseconds are not worth speaking of."""

_EXITED = ExitInfo(reason=ExitReason.EXITED).to_json()


class PipedExec(Operation):
    """A command whose output goes to the connection that asked for it; it does not survive the connection."""

    __slots__ = ("_child", "_listening", "_loop", "_quiet", "_request", "_stdin", "_streams")

    def __init__(self, connection: Connection, loop: Loop, commands: Commands, request: ExecRequest) -> None:
        super().__init__(connection)
        self._loop = loop
        self._request = request
        self._quiet: Timer | None = None
        self._child, stdin, out, err = start_piped(commands, request)
        self._stdin = InputPipe(loop, stdin, self._room)
        self._streams = (
            OutputPipe(loop, out, self._stdout, self._ended, paused=True),
            OutputPipe(loop, err, self._stderr, self._ended, paused=True),
        )
        self._listening = loop.call_later(LISTEN_S, self._listen)
        self._child.on_exit = self._exited

    def frame(self, kind: int, payload: bytes) -> None:
        """Take input, its end (an empty STDIN), or KILL."""
        if kind == FrameType.STDIN:
            if payload:
                self._stdin.write(payload)
                if self._stdin.full:
                    self.connection.pause()
            else:
                self._stdin.end()
        elif kind == FrameType.KILL:
            self._child.kill(ExitReason.KILLED)

    def end(self) -> None:
        """Close the command's stdin; or, if the client said that its end means that, give the command up."""
        if self._request.kill_on_eof:
            self.connection.drop()
        else:
            self._stdin.end()

    def lost(self) -> None:
        """Kill the command: nobody would ever see what it does."""
        self._child.kill(ExitReason.HOST_LOST)
        self._child.on_exit = None
        self._close()

    def drained(self) -> None:
        """Read on."""
        self._listen()

    def _listen(self) -> None:
        for stream in self._streams:
            stream.resume()

    def _room(self) -> None:
        self.connection.resume()

    def _stdout(self, data: bytes) -> None:
        self._pass_on(FrameType.STDOUT, data)

    def _stderr(self, data: bytes) -> None:
        self._pass_on(FrameType.STDERR, data)

    def _pass_on(self, kind: int, data: bytes) -> None:
        connection = self.connection
        connection.send(kind, data)
        if connection.congested:
            for stream in self._streams:
                stream.pause()
        if self._quiet is not None:
            self._await_quiet()

    def _ended(self) -> None:
        self._finish_if_done()

    def _exited(self, _child: Child) -> None:
        if self._listening.callback is not None:
            # It was quicker than LISTEN_S: now is the time to read what it has said.
            self._listening.cancel()
            for stream in self._streams:
                stream.drain()
            if not self.connection.congested:
                self._listen()
        self._finish_if_done()
        if self.connection.operation is self:
            self._await_quiet()

    def _finish_if_done(self) -> None:
        if not self._child.running and not any(stream.open for stream in self._streams):
            self._finish()

    def _await_quiet(self) -> None:
        # A background child holds a pipe. What was written before the command's end is in the pipe already, and is
        # read at once; for what comes later we wait as long as it keeps coming.
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(QUIET_S, self._went_quiet)

    def _went_quiet(self) -> None:
        if self.connection.congested:
            self._await_quiet()  # silent because we do not read: the client is slow, not the command
            return
        for stream in self._streams:
            stream.drain()
        self._finish()

    def _finish(self) -> None:
        if self.connection.operation is not self:
            return
        if self._quiet is not None:
            self._quiet.cancel()
        self._stdin.close()
        for stream in self._streams:
            stream.discard()
        self.connection.send(FrameType.EXIT, exit_payload(self._child, self._request))
        self.connection.finish()

    def _close(self) -> None:
        self._listening.cancel()
        if self._quiet is not None:
            self._quiet.cancel()
        self._stdin.close()
        for stream in self._streams:
            stream.close()


def exit_payload(child: Child, request: ExecRequest) -> bytes:
    """Return EXIT's payload, with the reason for a client that asked for it."""
    if not request.exit_info:
        return encode_exit(child.code)
    # Nearly always this: encoded once, as the client waits.
    return encode_exit(child.code, _EXITED if child.reason is ExitReason.EXITED else child.exit_info().to_json())


def start_piped(commands: Commands, request: ExecRequest) -> tuple[Child, int, int, int]:
    """Start a command on pipes; return it and our ends of its stdin (-1 with `no_stdin`), stdout and stderr."""
    theirs: list[int] = []
    ours: list[int] = []
    actions: list[FileAction] = []
    try:
        for number in (0, 1, 2):
            if number == 0 and request.no_stdin:
                ours.append(-1)
                actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
                continue
            mine, other = make_pipe(1 if number == 0 else 0)
            ours.append(mine)
            theirs.append(other)
            actions.append((os.POSIX_SPAWN_DUP2, other, number))
        child = commands.start(request, actions)
    except BaseException:
        for fd in ours:
            if fd >= 0:
                os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return child, ours[0], ours[1], ours[2]


def start_detached(connection: Connection, commands: Commands, request: ExecRequest) -> None:
    """Start a command that outlives its client, its output in a file; answer with its pid and the file's name."""
    path = request.output_file or f"/tmp/bhatti-detach-{time.time_ns()}.log"
    try:
        log = commands.open_as(request, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise system_error(f"open {path}", error) from error
    try:
        child = commands.start(
            request,
            [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
        )
    except RequestError:
        if not request.output_file:
            with suppress(OSError):
                os.unlink(path)
        raise
    finally:
        os.close(log)
    connection.send(FrameType.STDOUT, Detached(pid=child.pid, output_file=path).to_json())
    connection.send(FrameType.EXIT, encode_exit(0))
