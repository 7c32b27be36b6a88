"""Starting a program: whose it is, where it starts, what it inherits.

posix_spawn (glibc: a vfork underneath) is the only way that is fast from a process with an interpreter in it: 770 us
against 2,800 us for fork on the reference machine, as fork copies the page tables. What posix_spawn cannot do for the
child is done to this process around the call, which is safe because the agent has one thread that matters: change the
directory, the credentials (see `lohar.credentials`) and the OOM score, spawn, change back.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

from lohar.failures import RequestError, system_error

if sys.platform != "linux":
    from lohar.forked import fork_on_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lohar.credentials import Credentials

    FileAction = tuple[int, int, int] | tuple[int, int, str, int, int]

DEFAULT_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "xterm-256color",
    "HOME": "/root",
    "LANG": "en_US.UTF-8",
}
"""What a command finds when nobody says otherwise: nothing is inherited from the agent (the reference's values)."""

DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Python ignores the first two and nohup may have ignored others; a command starts with them as they were made."""


EXEMPT = (b"-1000", b"0")
PREFERRED = (b"0", b"500")
"""OOM scores (proc(5), oom_score_adj) of the agent and its children: where the first pair is not allowed, the second
makes the kernel take any command, however small, before the agent."""


class Launcher:
    """Starts programs for this agent. `exempt` says that the agent is exempt from the OOM killer; children are not."""

    def __init__(self, *, exempt: bool = False) -> None:
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC) if exempt else -1
        self._own, self._childrens = EXEMPT
        self._path: str | None = None
        self._inherited_path = os.environ.get("PATH")
        if exempt:
            try:
                os.write(self._score, self._own)
            except PermissionError:
                # A container's init may not go below 0 (CAP_SYS_RESOURCE); its commands can still go before it.
                self._own, self._childrens = PREFERRED

    def search(self, path: str) -> None:
        """Have the C library look programs up in `path` for commands whose PATH this is.

        It searches where the *caller's* environment says, so that is changed. Looking for programs here takes a system
        call for each directory as well, but with an interpreter in between: 25 us of the 600 that a command takes.
        """
        os.environ["PATH"] = self._path = path

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        file_actions: Sequence[FileAction] = (),
        *,
        terminal: int | None = None,
        cwd: str | None = None,
        credentials: Credentials | None = None,
    ) -> int:
        """Start `argv` in a session of its own and return its pid.

        With `terminal`, the slave end of a pseudo-terminal, that is its stdin, stdout, stderr and controlling terminal.
        A bare name is looked up in the PATH of `env`. `cwd` None means the agent's own directory, `credentials` None
        its own user. Raises `RequestError` with the words "no such file", "not found" or "permission denied".
        """
        if credentials is not None:
            credentials.assume()
        try:
            if cwd is not None:
                self._enter(cwd)
            return self._start(tuple(argv), env, file_actions, terminal)
        finally:
            if cwd is not None:
                os.fchdir(self._home)
            if credentials is not None:
                credentials.drop()

    def _enter(self, cwd: str) -> None:
        try:
            os.chdir(cwd)
        except OSError as error:
            raise system_error(f"start: chdir {cwd}", error) from error

    def _start(
        self, argv: tuple[str, ...], env: Mapping[str, str], file_actions: Sequence[FileAction], terminal: int | None
    ) -> int:
        if terminal is not None:
            if sys.platform == "linux":
                file_actions = _on_terminal(os.ttyname(terminal))
            else:
                return fork_on_terminal(find_program(argv[0], env), argv, env, terminal, DEFAULT_SIGNALS)
        if argv[0] and env.get("PATH", "") == self._path:
            try:
                return self._spawn(os.posix_spawnp, argv[0], argv, env, file_actions)
            except OSError:
                pass  # what is wrong is found out below
        path = find_program(argv[0], env)
        try:
            return self._spawn(os.posix_spawn, path, argv, env, file_actions)
        except OSError as error:
            # With ENOENT it is the interpreter that is missing which the program's first line or its header names.
            raise system_error(f"start: fork/exec {path}", error) from error

    def _spawn(
        self,
        spawn: Callable[..., int],
        path: str,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        file_actions: Sequence[FileAction],
    ) -> int:
        if self._score >= 0:
            # A child inherits the score; set afterwards, a grandchild might already have been born with ours.
            os.write(self._score, self._childrens)
        try:
            return spawn(
                path, argv, env, file_actions=file_actions, setsid=True, setsigmask=(), setsigdef=DEFAULT_SIGNALS
            )
        finally:
            if self._score >= 0:
                os.write(self._score, self._own)

    def close(self) -> None:
        """Free the descriptors, and give the process its own PATH back."""
        if self._path is not None and self._inherited_path is not None:
            os.environ["PATH"] = self._inherited_path
        os.close(self._home)
        if self._score >= 0:
            os.close(self._score)


def _on_terminal(name: str) -> list[FileAction]:
    # The child is a session leader without terminal by then: the first one that it opens becomes its own (tty(4)).
    return [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]


def find_program(name: str, env: Mapping[str, str]) -> str:
    """Return the path to execute for `name`. Raises `RequestError` if there is none that may be executed.

    The rules are those of execvp(3), on the command's own PATH; relative results refer to the current directory.
    """
    if "/" in name:
        return name
    if not name:
        raise RequestError("start: exec: empty command name: not found")
    folders = [folder or "." for folder in env.get("PATH", "").split(":")]
    access = os.access
    for folder in folders:
        path = f"{folder}/{name}"
        # First what costs no exception: most directories of a PATH do not have it.
        if access(path, os.X_OK) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    for folder in folders:
        path = f"{folder}/{name}"
        if access(path, os.F_OK) and stat.S_ISREG(os.stat(path).st_mode):
            raise RequestError(f"start: fork/exec {path}: permission denied")
    raise RequestError(f'start: exec: "{name}": executable file not found in $PATH')
