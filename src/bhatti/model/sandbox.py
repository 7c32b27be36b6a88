"""What a sandbox is: what was asked for, what was decided, and how it stands."""

import enum
import re
from typing import Annotated

import msgspec

from bhatti.errors import InvalidRequest, shortened

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
"""1 to 63 characters; a name can be a host name label, a file name and an argument without quoting."""

MIN_MEMORY_MIB = 128
"""Below this Debian's kernel and the agent do not both fit."""

Env = dict[str, str]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Status(enum.StrEnum):
    """Where a sandbox is in its life; the moves between them are in `model.lifecycle`."""

    CREATING = "creating"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DESTROYED = "destroyed"


class Temperature(enum.StrEnum):
    """How much of a running sandbox is awake."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"


class GuestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file to put into the guest before its first command. `content` is base64 in JSON; `mode` is octal text."""

    path: str
    content: bytes
    mode: str = "0644"


class VolumeStatus(enum.StrEnum):
    """How far a volume is."""

    CREATING = "creating"
    READY = "ready"
    REMOVING = "removing"


class VolumeAttachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A volume of the host at a mount point of the guest."""

    name: str
    target: str
    read_only: bool = False


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine needs to make a sandbox; complete, checked, with no defaults left to decide.

    `memory_mib` and `disk_mib` are MiB (2**20 bytes); `disk_mib` bounds what the sandbox may write. `token` is the
    secret that the guest agent asks of every connection. `owner` says whose network it is on: sandboxes of different
    owners cannot reach each other.
    """

    id: str
    name: str
    image: str
    cpus: Positive
    memory_mib: Annotated[int, msgspec.Meta(ge=MIN_MEMORY_MIB)]
    disk_mib: Positive
    token: str
    user: str = "lohar"
    env: Env = {}
    files: tuple[GuestFile, ...] = ()
    volumes: tuple[VolumeAttachment, ...] = ()
    init: str | None = None
    owner: str = ""


def checked_name(name: str, what: str = "a sandbox") -> str:
    """Return `name` if it may be that of `what`, else raise `InvalidRequest` (code `bad-name`)."""
    if not NAME_PATTERN.fullmatch(name):
        shown = shortened(name)
        raise InvalidRequest(
            f"{shown!r} cannot name {what}",
            hint="use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit",
            code="bad-name",
        )
    return name
