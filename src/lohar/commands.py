"""From an EXEC_REQ to a running child: whose environment, directory, account and control group it gets.

Every command of the agent starts here, be it piped, detached or on a terminal, and is listed here while it runs.
"""

from __future__ import annotations

import os

from lohar.child import Child
from lohar.failures import RequestError
from lohar.launch import DEFAULT_ENV

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lohar.cgroups import CommandGroups
    from lohar.config import AgentConfig
    from lohar.credentials import Credentials
    from lohar.launch import FileAction, Launcher
    from lohar.loop import Loop
    from lohar.memory import SharedMemory
    from lohar.reaper import Reaper
    from lohar.wire.messages import ExecRequest


class Commands:
    """Starts commands as `config` says and knows those that run."""

    def __init__(
        self, loop: Loop, reaper: Reaper, launcher: Launcher, config: AgentConfig, groups: CommandGroups | None = None
    ) -> None:
        self.running: dict[int, Child] = {}
        self.memory: SharedMemory | None = None
        """What tells that a command has run out of memory, where it has no group of its own."""
        self._loop = loop
        self._reaper = reaper
        self._launcher = launcher
        self._groups = groups
        self.configure(config)

    def configure(self, config: AgentConfig) -> None:
        """Take over a configuration; commands that run already keep what they have."""
        self._config = config
        self._env = {**DEFAULT_ENV, "HOME": config.home, **config.env}
        self._launcher.search(self._env["PATH"])
        self._credentials: Credentials | None = None
        if config.pid1 and config.uid != 0:
            self._credentials = self._account(config.user)[0]

    def start(
        self, request: ExecRequest, file_actions: Sequence[FileAction] = (), *, terminal: int | None = None
    ) -> Child:
        """Start what `request` asks for, on pipes or files or on the terminal's slave end. Raises `RequestError`."""
        credentials, home = self._credentials, ""
        if request.user:
            credentials, home = self._account(request.user)
        env = self.environment(request, home)
        group = self._groups.create() if self._groups is not None else None
        kills = self.memory.kills() if self.memory is not None else 0
        try:
            pid = self._launcher.start(
                request.argv,
                env,
                file_actions,
                terminal=terminal,
                cwd=self._folder(request.cwd),
                credentials=credentials,
            )
        except BaseException:
            if group is not None:
                group.close()
            raise
        if group is not None:
            group.add(pid)
        child = Child(self._loop, self._reaper, pid, request.argv, group)
        child.on_reaped = self._reaped
        if self.memory is not None:
            self.memory.watch(child, kills)
        self.running[pid] = child
        if request.timeout_sec > 0:
            child.limit(request.timeout_sec)
        return child

    def environment(self, request: ExecRequest, home: str = "") -> Mapping[str, str]:
        """Return the variables of a command; `home` replaces the configured one."""
        if not request.env and not home:
            return self._env
        env = {**self._env, "HOME": home} if home else dict(self._env)
        for name, value in request.env.items():
            if "=" in name:
                raise RequestError(f"bad exec request: env: {name!r} is not a variable's name")
            env[name] = value
        return env

    def open_as(self, request: ExecRequest, path: str, flags: int) -> int:
        """Open a file with the rights of the account that the command of `request` will have. Raises `OSError`."""
        credentials = self._account(request.user)[0] if request.user else self._credentials
        if credentials is None:
            return os.open(path, flags, 0o644)
        credentials.assume()
        try:
            return os.open(path, flags, 0o644)
        finally:
            credentials.drop()

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group that terminals and uploaded files are given to; None: they stay the agent's own."""
        return (self._config.uid, self._config.gid) if self._config.pid1 else None

    def account_owner(self, request: ExecRequest) -> tuple[int, int] | None:
        """User and group of the command of `request`, if it is not the agent's own."""
        credentials = self._account(request.user)[0] if request.user else self._credentials
        return None if credentials is None else (credentials.uid, credentials.gid)

    def _folder(self, wanted: str) -> str | None:
        """Return where a command starts; what is `wanted` may be relative to where those start that want nothing."""
        folder = self._config.cwd
        if folder is None or wanted:
            return os.path.join(folder or "", wanted) or None
        # The workspace may have been removed by a command; the next one must still be able to start.
        return folder if os.path.isdir(folder) else "/"

    def _account(self, name: str) -> tuple[Credentials | None, str]:
        """Return credentials (None: the agent's own) and home of an account of the guest."""
        from lohar.users import find_user

        user = find_user(name)
        if user is None:
            raise RequestError(f"start: user {name!r}: not found")
        if user.uid == os.geteuid():
            return None, user.home
        from lohar.credentials import Credentials

        return Credentials(user.uid, user.gid, user.groups), user.home

    def _reaped(self, child: Child) -> None:
        del self.running[child.pid]
        if self.memory is not None and (oom := self.memory.ended(child)) is not None:
            child.ran_out_of_memory(oom)
