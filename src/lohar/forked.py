"""The slow way to start a program on a terminal, for systems where posix_spawn cannot give it a controlling one."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def fork_on_terminal(
    path: str, argv: Sequence[str], env: Mapping[str, str], slave: int, signals: Sequence[signal.Signals]
) -> int:
    """Fork, make the terminal `slave` the controlling one of a new session, execute. Raises `OSError` like execve(2).

    `signals` get their default disposition back.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.login_tty(slave)
            for number in signals:
                signal.signal(number, signal.SIG_DFL)
            os.execve(path, tuple(argv), env)
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(writer)
    try:
        # Ends without a byte when execve has closed the other end.
        failed = os.read(reader, 16)
    finally:
        os.close(reader)
    if failed:
        os.waitpid(pid, 0)
        raise OSError(int(failed), os.strerror(int(failed)))
    return pid
