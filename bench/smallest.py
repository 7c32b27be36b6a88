"""The least that an agent can be: what a byte on a socket, a command on pipes and one on the way back cost in Python.

It parses nothing, keeps no state and knows one command, but waits as any agent must that serves more than one caller:
in epoll, told of a child's end by SIGCHLD. The agent's own work is what lies between this and its figures.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def smallest_agent() -> Iterator[Callable[[], object]]:
    """Run it in a process of its own while the block lasts; yield what has it run one command and waits for its end."""
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        near.close()
        try:
            _serve(far)
        finally:
            os._exit(0)
    far.close()

    def ask() -> None:
        near.send(b"x")
        if not near.recv(1):
            raise RuntimeError("the smallest agent has gone")

    with near:
        yield ask
    os.waitpid(child, 0)


def _serve(sock: socket.socket) -> None:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    poller = select.epoll()
    poller.register(sock, select.EPOLLIN)
    poller.register(woken, select.EPOLLIN)
    while True:
        poller.poll()
        if not sock.recv(1):
            return
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, their_out, 1),
            (os.POSIX_SPAWN_DUP2, their_err, 2),
        ]
        pid = os.posix_spawn("/bin/true", ["true"], {}, file_actions=actions, setsid=True)
        os.close(their_out)
        os.close(their_err)
        poller.poll()
        os.read(woken, 512)
        os.waitpid(pid, 0)
        for end in (out, err):
            os.read(end, 1)
            os.close(end)
        sock.send(b"x")
