"""The daemon itself."""

from typing import Literal

from bhatti.operations.documents.base import Answer, Seconds


class Health(Answer, frozen=True, kw_only=True):
    """Whether the daemon serves. `status` is `starting` until recovery is over; `uptime` is in seconds.

    `damaged` is a daemon whose store was found damaged: it changes nothing any more, what runs can be used.
    How many `sandboxes` there are is told to the administrator alone.
    """

    status: Literal["ok", "starting", "stopping", "damaged"]
    sandboxes: int | None
    uptime: Seconds


class Version(Answer, frozen=True, kw_only=True):
    """What runs there. `can` says what its engine can do on this host and what not; null until the daemon serves."""

    version: str
    api: str
    engine: str
    python: str
    pid: int
    can: dict[str, bool] | None = None


class Check(Answer, frozen=True, kw_only=True):
    """One thing that the doctor looked at; `hint` says how to mend what is not `ok`."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    hint: str | None = None


class DoctorReport(Answer, frozen=True, kw_only=True):
    """What this machine can do and what it lacks; `ok` when nothing failed. `apt` are the packages to install."""

    ok: bool
    checks: list[Check]
    apt: list[str] = []
