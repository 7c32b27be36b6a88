"""What the agent knows about the machine it serves: the config drive's `config.json`, decoded and checked.

The host writes the file (`bhatti.images.config_drive`); nobody inside the guest can change it, because the drive is
read-only. The agent still refuses what makes no sense, so that a wrong drive fails at boot and not at some command.
"""

from __future__ import annotations

from lohar.wire.fields import MessageError, blob, flag, items, mapping, nested, number, text
from lohar.wire.records import Record
from lohar.wire.volume import Volume as Volume
from lohar.wire.volume import addresses_device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class FileContent(Protocol):
        """A file as the config drive and IDENTITY have it, `mode` octal text."""

        @property
        def content(self) -> bytes:
            """The bytes."""

        @property
        def mode(self) -> str:
            """Octal text."""


DEFAULT_HOSTNAME = "bhatti"
DEFAULT_USER = "lohar"
DEFAULT_UID = 1000
WORKSPACE = "/workspace"
"""Where commands start when the image has it; otherwise they start in their user's home."""

MAX_CONFIG_BYTES = 64 << 20
"""Larger than any sane set of injected files; a bound so that a broken drive cannot eat the guest's memory."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and what was seen."""


class InjectedFile(Record):
    """A file that the host wants in the guest before the first command; `mode` holds permission bits only."""

    path: str = text()
    content: bytes = blob(default=b"", maximum=MAX_CONFIG_BYTES)
    mode: int = number(default=0o644, minimum=0, maximum=0o7777)


class AgentConfig(Record):
    """Everything the agent is told, with the account already resolved.

    `token` is None only in test mode: then nobody is asked for one. `cwd` is where commands start when the request
    names no directory; None means the agent's own. `generation` counts identities: it grows when a forked guest is
    given a new one. `pid1` says whether the agent is the machine's init.
    """

    token: str | None = text(default=None)
    hostname: str = text(default=DEFAULT_HOSTNAME)
    user: str = text(default=DEFAULT_USER)
    uid: int = number(default=DEFAULT_UID)
    gid: int = number(default=DEFAULT_UID)
    home: str = text(default="/home/lohar")
    cwd: str | None = text(default=None)
    env: Mapping[str, str] = mapping(text(), default={})
    files: tuple[InjectedFile, ...] = items(nested(InjectedFile), default=())
    volumes: tuple[Volume, ...] = items(nested(Volume), default=())
    dns: tuple[str, ...] = items(text(), default=())
    init: str | None = text(default=None)
    sandbox_id: str = text(default="")
    generation: int = number(default=0, minimum=0)
    pid1: bool = flag(default=False)


class _File(Record):
    content: bytes = blob(default=b"", maximum=MAX_CONFIG_BYTES)
    mode: str = text(default="0644")


class _Document(Record):
    """`config.json` as it is written; unknown keys are ignored, so that a newer host can talk to an older agent."""

    token: str = text(default="")
    hostname: str = text(default="", maximum=64)
    user: str = text(default="")
    env: Mapping[str, str] = mapping(text(), default={})
    files: Mapping[str, _File] = mapping(nested(_File), default={})
    volumes: tuple[Volume, ...] = items(nested(Volume), default=())
    dns: tuple[str, ...] = items(text(), default=())
    init: str = text(default="")
    sandbox_id: str = text(default="")
    generation: int = number(default=0, minimum=0)


def parse(document: bytes) -> AgentConfig:
    """Decode `config.json`; raises `ConfigError`.

    The account fields (`uid`, `gid`, `home`, `cwd`) are left at their defaults: only the guest's own files can tell
    (`lohar.users.resolve`).
    """
    try:
        raw = _Document.from_json(document)
    except MessageError as error:
        raise ConfigError(f"config.json: {error}") from error
    return AgentConfig(
        token=raw.token or None,
        hostname=raw.hostname or DEFAULT_HOSTNAME,
        user=raw.user or DEFAULT_USER,
        env=checked_env(raw.env),
        files=checked_files(raw.files),
        volumes=checked_volumes(raw.volumes),
        dns=checked_dns(raw.dns),
        init=raw.init or None,
        sandbox_id=raw.sandbox_id,
        generation=raw.generation,
        pid1=True,
    )


def checked_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return `env` if every name can be that of a variable, else raise `ConfigError`."""
    for name in env:
        if "=" in name:
            raise ConfigError(f"env: {name!r} cannot name a variable")
    return env


def checked_files(files: Mapping[str, FileContent]) -> tuple[InjectedFile, ...]:
    """Return the files of a config drive or an IDENTITY, their paths and modes checked; raises `ConfigError`."""
    return tuple([InjectedFile(path=_path(path), content=f.content, mode=_mode(path, f)) for path, f in files.items()])


def checked_volumes(volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
    """Return `volumes` if each is a device at an absolute path, else raise `ConfigError`."""
    for volume in volumes:
        if not addresses_device(volume):
            raise ConfigError(f"volumes: {volume.device!r} at {volume.mount!r} is not a device at an absolute path")
    return volumes


def checked_dns(servers: tuple[str, ...]) -> tuple[str, ...]:
    """Return `servers` if each is one word, so that none can add lines to resolv.conf; raises `ConfigError`."""
    for server in servers:
        if server.split() != [server]:
            raise ConfigError(f"dns: {server!r} is not an address")
    return servers


def _path(path: str) -> str:
    if not path.startswith("/") or path.endswith("/"):
        raise ConfigError(f"files: {path!r} is not the absolute path of a file")
    return path


def _mode(path: str, file: FileContent) -> int:
    try:
        return int(file.mode or "0644", 8) & 0o7777
    except ValueError as error:
        raise ConfigError(f"files: {path}: the mode {file.mode!r} is not octal") from error
