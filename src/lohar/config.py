"""What the agent knows about the machine it serves: the config drive's `config.json`, decoded and checked.

The host writes the file (`bhatti.images.config_drive`); nobody inside the guest can change it, because the drive is
read-only. The agent still refuses what makes no sense, so that a wrong drive fails at boot and not at some command.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

_T = TypeVar("_T")

DEFAULT_HOSTNAME = "bhatti"
DEFAULT_USER = "lohar"
DEFAULT_UID = 1000
WORKSPACE = "/workspace"
"""Where commands start when the image has it; otherwise they start in their user's home."""

MAX_CONFIG_BYTES = 64 << 20
"""Larger than any sane set of injected files; a bound so that a broken drive cannot eat the guest's memory."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and what was seen."""


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file that the host wants in the guest before the first command; `mode` holds permission bits only."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Volume:
    """A block device (`/dev/vde`) to be mounted at `mount`."""

    device: str
    mount: str
    fs: str = "ext4"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the agent is told, with the account already resolved.

    `token` is None only in test mode: then nobody is asked for one. `cwd` is where commands start when the request
    names no directory; None means the agent's own. `generation` counts identities: it grows when a forked guest is
    given a new one. `pid1` says whether the agent is the machine's init.
    """

    token: str | None = None
    hostname: str = DEFAULT_HOSTNAME
    user: str = DEFAULT_USER
    uid: int = DEFAULT_UID
    gid: int = DEFAULT_UID
    home: str = "/home/lohar"
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    files: tuple[InjectedFile, ...] = ()
    volumes: tuple[Volume, ...] = ()
    dns: tuple[str, ...] = ()
    init: str | None = None
    sandbox_id: str = ""
    generation: int = 0
    pid1: bool = False


def parse(text: bytes) -> AgentConfig:
    """Decode `config.json`.

    The account fields (`uid`, `gid`, `home`, `cwd`) are left at their defaults: only the guest's own files can tell
    (`lohar.users.resolve`). Unknown keys are ignored, so that a newer host can talk to an older agent. Raises
    `ConfigError`.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"expected an object, got {type(raw).__name__}")
    reader = _Reader(raw)
    env = reader.mapping("env")
    for name, value in env.items():
        if not isinstance(value, str) or "\0" in value or "\0" in name or not name or "=" in name:
            raise ConfigError(f"env: {name!r} is not a variable with a text value")
    return AgentConfig(
        token=reader.text("token") or None,
        hostname=reader.text("hostname") or DEFAULT_HOSTNAME,
        user=reader.text("user") or DEFAULT_USER,
        env=env,
        files=parse_files(reader.mapping("files")),
        volumes=tuple(_volume(item) for item in reader.sequence("volumes")),
        dns=parse_dns(reader.sequence("dns")),
        init=reader.text("init") or None,
        sandbox_id=reader.text("sandbox_id"),
        generation=reader.number("generation"),
        pid1=True,
    )


def parse_files(raw: Mapping[str, Any]) -> tuple[InjectedFile, ...]:
    """Decode `{path: {content: base64, mode: octal text}}`, as the config drive and IDENTITY both have it.

    Raises `ConfigError` for a relative path, content that is not base64 or a mode that is not octal.
    """
    return tuple(_file(path, value) for path, value in raw.items())


def parse_dns(raw: list[Any]) -> tuple[str, ...]:
    """Return the name servers, checked to be one word each so that they cannot add lines to resolv.conf."""
    for server in raw:
        if not isinstance(server, str) or not server or any(c.isspace() for c in server):
            raise ConfigError(f"dns: {server!r} is not an address")
    return tuple(raw)


def _file(path: str, value: object) -> InjectedFile:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"files: {path!r} is not an absolute path")
    if not isinstance(value, dict):
        raise ConfigError(f"files: {path}: expected an object, got {type(value).__name__}")
    content, mode = value.get("content", ""), value.get("mode") or "0644"
    try:
        return InjectedFile(path, base64.b64decode(content, validate=True), int(mode, 8) & 0o7777)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ConfigError(f"files: {path}: {error}") from error


def _volume(value: object) -> Volume:
    if not isinstance(value, dict):
        raise ConfigError(f"volumes: expected an object, got {type(value).__name__}")
    reader = _Reader(value)
    device, mount = reader.text("device"), reader.text("mount")
    if not device.startswith("/dev/") or not mount.startswith("/"):
        raise ConfigError(f"volumes: {device!r} at {mount!r} is not a device at an absolute path")
    return Volume(device, mount, reader.text("fs") or "ext4", bool(value.get("read_only", False)))


class _Reader:
    """Typed access to a decoded object: absent and null mean empty, any other wrong type is an error."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw

    def text(self, key: str) -> str:
        return self._typed(key, str) or ""

    def number(self, key: str) -> int:
        return self._typed(key, int) or 0

    def mapping(self, key: str) -> dict[str, Any]:
        return self._typed(key, dict) or {}

    def sequence(self, key: str) -> list[Any]:
        return self._typed(key, list) or []

    def _typed(self, key: str, kind: type[_T]) -> _T | None:
        value = self._raw.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"{key}: expected {kind.__name__}, got {type(value).__name__}")
        return value
