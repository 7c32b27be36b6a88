"""Acting as another user for the length of a few system calls.

The kernel keeps credentials per thread; the C library's setuid family hides that by interrupting every thread and
waiting for it, which would hang while the worker (`lohar.worker`) is inside fsync. So the raw system calls are made,
for this thread alone. The saved user id stays 0, which is what lets the thread come back; execve(2) makes the child's
saved id equal to its effective one, so a child cannot (credentials(7)).
"""

from __future__ import annotations

import os
import sys

from lohar.failures import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSCALLS = {
    ("linux", "x86_64"): (117, 119, 116),
    ("linux", "aarch64"): (147, 149, 159),
    ("linux", "riscv64"): (147, 149, 159),
}
"""setresuid, setresgid, setgroups: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h"""


class Credentials:
    """A user, its group and its other groups. `assume` and `drop` come in pairs, with nothing slow between them."""

    __slots__ = ("_libc", "_numbers", "_own_groups", "gid", "groups", "uid")

    def __init__(self, uid: int, gid: int, groups: Sequence[int]) -> None:
        """Raises `RequestError` where this process may not, or does not know how to, become somebody else."""
        self.uid = uid
        self.gid = gid
        self.groups = tuple(groups)
        numbers = _SYSCALLS.get((sys.platform, os.uname().machine))
        if os.geteuid() != 0 or numbers is None:
            raise RequestError("start: user: permission denied: the agent cannot act as another user here")
        # Imported here: 3 ms and 0.7 MB for agents that never need it (test mode).
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._numbers = numbers
        self._own_groups = tuple(os.getgroups())

    def assume(self) -> None:
        """Become this user, in this thread. Raises `OSError`, with everything as it was."""
        setresuid, setresgid, _setgroups = self._numbers
        try:
            self._set_groups(self.groups)
            self._call(setresgid, self.gid, self.gid, 0)
            self._call(setresuid, self.uid, self.uid, 0)
        except OSError:
            self.drop()
            raise

    def drop(self) -> None:
        """Become root again."""
        setresuid, setresgid, _setgroups = self._numbers
        self._call(setresuid, 0, 0, 0)
        self._call(setresgid, 0, 0, 0)
        self._set_groups(self._own_groups)

    def _set_groups(self, groups: Sequence[int]) -> None:
        import ctypes

        array = (ctypes.c_uint32 * max(1, len(groups)))(*groups)
        self._call(self._numbers[2], len(groups), array)

    def _call(self, number: int, *arguments: object) -> None:
        import ctypes

        if self._libc.syscall(number, *arguments) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
