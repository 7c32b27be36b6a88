"""Sandboxes."""

import datetime
from typing import Annotated, Literal

import msgspec

from bhatti.model.sandbox import Status, Temperature
from bhatti.operations.documents.base import Answer, Event, Request
from bhatti.operations.documents.volumes import Mounted, VolumeMount


class FileInjection(Request, frozen=True, kw_only=True):
    """A file to put into the guest before its first command; `content` is base64 in JSON, `mode` octal text."""

    guest_path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    content: bytes
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")] = "0644"


class SandboxCreate(Request, frozen=True, kw_only=True, rename={"source": "from"}):
    """What is wanted. Everything has a default; `name` becomes `sandbox-` and six hex digits.

    `from` names a sandbox to fork: then the defaults are what that one is, and nothing else is possible.
    `persistent_volumes` and `new_volumes` (each made if it is not there) are the reference's words for `volumes`.
    """

    name: str | None = None
    image: str | None = None
    cpus: int | None = None
    memory_mb: int | None = None
    disk_size_mb: int | None = None
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    env: dict[str, str] = {}
    files: list[FileInjection] = []
    volumes: list[VolumeMount] = []
    persistent_volumes: list[VolumeMount] = []
    new_volumes: list[VolumeMount] = []
    init: str | None = None
    source: str | None = None


class Cause(Answer, frozen=True, kw_only=True):
    """Why a sandbox is not running: kind, words for people, the last lines of its console."""

    kind: str
    detail: str
    console_tail: str = ""


class Sandbox(Answer, frozen=True, kw_only=True):
    """A sandbox as it is now. `how` and `why` say which way it came to life; `timings_ms` what each part took."""

    id: str
    name: str
    status: Status
    thermal: Temperature
    image: str
    cpus: int
    memory_mb: int
    disk_size_mb: int
    created_at: datetime.datetime
    engine: str
    engine_id: str
    ip: str | None = None
    accelerator: str = ""
    how: str = ""
    why: str = ""
    timings_ms: dict[str, float] = {}
    engine_meta: dict[str, str] = {}
    volumes: list[Mounted] = []
    template_id: str | None = None
    created_by: str = ""
    stopped_at: datetime.datetime | None = None
    cause: Cause | None = None


class CreateEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a creation's stream: `stage` as each part begins, at the end `sandbox` or `error`."""

    type: Literal["stage", "sandbox", "error"]
    stage: str = ""
    sandbox: Sandbox | None = None


class Outcome(Answer, frozen=True, kw_only=True):
    """What became of something, in one word (`destroyed`, `deleted`, `ok`)."""

    status: str
