"""The agent's main program: listen, serve until told to stop, and go without leaving anything behind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress

from lohar.agent import Agent
from lohar.launch import Launcher
from lohar.loop import Loop
from lohar.poller import READ
from lohar.processes import processes, send_signal
from lohar.reaper import Reaper, become_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lohar.config import AgentConfig

ACCEPT_AT_ONCE = 16
"""Connections accepted in one turn: a burst is not let wait for a turn each, and clients already there are served."""

ACCEPT_PAUSE_S = 0.1
"""How long nothing is accepted when the kernel has no descriptor or memory for it: it would say so again at once."""

FAREWELL_S = 3.0
"""How long the machine's processes may take to obey SIGTERM before it is switched off: a database writes what it must
in less, and a host that asks a guest to stop waits a little longer than this."""

FAREWELL_STEP_S = 0.02


class Listener:
    """Accepts connections on one socket and hands them to `serve`."""

    def __init__(self, loop: Loop, sock: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._serve = serve
        sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self._loop.register(self._sock.fileno(), READ, self._ready)

    def _ready(self, _mask: int) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                print(f"lohar: cannot accept: {error.strerror}; trying again", file=sys.stderr)
                self._loop.unregister(self._sock.fileno())
                self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            self._serve(sock)


def serve(
    config: AgentConfig,
    control: Sequence[socket.socket],
    forward: Sequence[socket.socket],
    *,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve on listening sockets until SIGTERM or SIGINT; `ready` is called when everything is in place.

    Returns when the processes that it started, or as PID 1 all of the machine's, have ended.
    """
    loop = Loop()
    reaper = Reaper(loop)
    groups = None
    if config.pid1:
        from lohar.cgroups import open_groups

        groups = open_groups(loop=loop)
    else:
        become_subreaper()
    agent = Agent(loop, reaper, Launcher(exempt=config.pid1), config, groups)
    if config.pid1 and groups is None:
        from lohar.memory import open_memory

        agent.commands.memory = open_memory()
    reaper.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        reaper.on_signal(number, loop.stop)
    for sock in control:
        Listener(loop, sock, agent.accept_control)
    for sock in forward:
        Listener(loop, sock, agent.accept_forward)
    if config.init:
        agent.start_init(config.init)
    if ready is not None:
        ready()
    # What is there now stays: the collector need not look at it again and again.
    gc.freeze()
    loop.run()
    for sock in (*control, *forward):
        loop.unregister(sock.fileno())
        sock.close()
    end_children(loop, reaper, everybody=config.pid1)
    loop.close()


def end_children(loop: Loop, reaper: Reaper, *, everybody: bool) -> None:
    """End what runs below this agent: ask, wait a little, kill, and collect all of it.

    Orphans are among the children, as the agent is their reaper. As init (`everybody`) every process is asked; that is
    also quicker than to find them one by one while they end.
    """
    signal_children(signal.SIGHUP, everybody=everybody, on_terminals=True)
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal_children(number, everybody=everybody)
        deadline = time.monotonic() + FAREWELL_S
        while reaper.collect() and time.monotonic() < deadline:
            loop.turn(FAREWELL_STEP_S)
            if number == signal.SIGKILL:
                signal_children(number, everybody=everybody)  # those that were born meanwhile


def signal_children(number: int, *, everybody: bool, on_terminals: bool = False) -> None:
    """Send a signal to all children and the groups they lead, or to every process of the machine.

    With `on_terminals` only to those that have one: shells do not mind SIGTERM, but they do mind being hung up on,
    while daemons take SIGHUP as the order to start over.
    """
    if everybody and not on_terminals:
        with suppress(ProcessLookupError):
            os.kill(-1, number)
        return
    own = os.getpid()
    for stat in processes():
        wanted = stat.terminal or not on_terminals
        if wanted and stat.pid != own and (everybody or stat.parent == own) and stat.state != "Z":
            send_signal(stat.pid, number)
            if stat.pid == stat.session:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(stat.pid, number)
