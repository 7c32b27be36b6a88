"""Sandboxes."""

import datetime
from typing import Annotated, Literal

import msgspec

from bhatti.model.preferences import IdleSeconds
from bhatti.model.sandbox import Status, Temperature
from bhatti.operations.documents.base import Answer, Event, Request
from bhatti.operations.documents.secrets import SecretsWanted
from bhatti.operations.documents.volumes import Mounted, VolumeMount


class FileInjection(Request, frozen=True, kw_only=True):
    """A file to put into the guest before its first command; `content` is base64 in JSON, `mode` octal text."""

    guest_path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    content: bytes
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")] = "0644"


class Outfit(Request, frozen=True, kw_only=True):
    """What a sandbox, or a template, can be said to have. Everything has a default.

    `keep_hot`, `labels` and the idle times are as in `SandboxEdit`.
    """

    image: str | None = None
    cpus: int | None = None
    memory_mb: int | None = None
    disk_size_mb: int | None = None
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    env: dict[str, str] = {}
    files: list[FileInjection] = []
    volumes: list[VolumeMount] = []
    init: str | None = None
    keep_hot: bool | None = None
    labels: dict[str, str] = {}
    warm_after_s: IdleSeconds | None = None
    cold_after_s: IdleSeconds | None = None
    secrets: SecretsWanted | None = None


class SandboxCreate(Outfit, frozen=True, kw_only=True, rename={"source": "from"}):
    """What is wanted. Everything has a default; `name` becomes `sandbox-`, or the template's, and six hex digits.

    `from` names a sandbox to fork: then the defaults are what that one is, and nothing else is possible.
    `template` (or `template_id`) names a template whose values count where the request has none. An empty name of
    sandbox or template is none.
    `secrets` are the values, as they are now, that the sandbox is to have; of a fork, those that its source asked for
    unless others are given.
    `persistent_volumes` and `new_volumes` (each made if it is not there) are the reference's words for `volumes`.
    """

    name: str | None = None
    persistent_volumes: list[VolumeMount] = []
    new_volumes: list[VolumeMount] = []
    source: str | None = None
    template: str | None = None
    template_id: str | None = None


class SandboxEdit(Request, frozen=True, kw_only=True):
    """What is to change; what is left out stays. `keep_hot` never sleeps.

    `warm_after_s` and `cold_after_s` are the idle times after which it is paused, and put to sleep: 0 is never, null
    leaves it to the daemon's settings. Labels that are added replace those of the same key. A new `name` is what the
    daemon calls it: inside, its hostname stays what it was created with.
    """

    name: str | None = None
    keep_hot: bool | None = None
    labels_add: dict[str, str] = {}
    labels_remove: list[str] = []
    warm_after_s: IdleSeconds | msgspec.UnsetType | None = msgspec.UNSET
    cold_after_s: IdleSeconds | msgspec.UnsetType | None = msgspec.UNSET


class SandboxFilter(Request, frozen=True, kw_only=True):
    """Which sandboxes to list: those with `label`, given as `key` or `key=value`."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None


class Cause(Answer, frozen=True, kw_only=True):
    """Why a sandbox is not running: kind, words for people, the last lines of its console."""

    kind: str
    detail: str
    console_tail: str = ""


class Sandbox(Answer, frozen=True, kw_only=True):
    """A sandbox as it is now. `how` and `why` say which way it came to life; `timings_ms` what each part took.

    `secrets` are the names of those that it asked for. `thermal` says how awake it is and `thermal_reason` why, and
    what becomes of it next. The idle times are its own; null are the daemon's.
    """

    id: str
    name: str
    status: Status
    thermal: Temperature
    thermal_reason: str = ""
    keep_hot: bool = False
    warm_after_s: float | None = None
    cold_after_s: float | None = None
    labels: dict[str, str] = {}
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
    secrets: list[str] = []
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


class SandboxStop(Request, frozen=True, kw_only=True):
    """How to stop. With `memory` it goes on where it was, and an engine that cannot keep that refuses; without, its
    programs end, and it starts from its disk. Where neither is said, memory is kept by engines that can.
    """

    memory: bool | None = None


class SandboxStart(Request, frozen=True, kw_only=True):
    """How to start. With `memory` it goes on where it was, or is refused and left as it is (`memory-lost`, with the
    reason); without, it boots from its disk where its memory cannot be used. `force` is the reference's word for the
    latter, which needs no saying here.
    """

    memory: bool = False
    force: bool = False
