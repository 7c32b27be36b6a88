"""Forks, checkpoints, memory snapshots."""

import datetime
from typing import Annotated

import msgspec

from bhatti.model.preferences import IdleSeconds
from bhatti.operations.documents.base import Answer, Request
from bhatti.operations.documents.sandboxes import FileInjection
from bhatti.operations.documents.secrets import SecretsWanted


class SandboxFork(Request, frozen=True, kw_only=True):
    """What the fork is to be called, and what it has beyond its source: variables, files, a start-up script.

    With `checkpoint` it goes on from there instead of from what the source is now. Labels and idle times are not
    inherited; they are as in `SandboxEdit`. Secrets are those that the source asked for, with the values that they
    have now, unless others are given.
    """

    name: str | None = None
    checkpoint: str | None = None
    env: dict[str, str] = {}
    files: list[FileInjection] = []
    init: str | None = None
    keep_hot: bool | None = None
    labels: dict[str, str] = {}
    warm_after_s: IdleSeconds | None = None
    cold_after_s: IdleSeconds | None = None
    secrets: SecretsWanted | None = None


class CheckpointCreate(Request, frozen=True, kw_only=True):
    """What the checkpoint is to be called: as a sandbox might be."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Checkpoint(Answer, frozen=True, kw_only=True):
    """A copy of a sandbox, memory and disk, as it was at `created_at`. If it is not `usable`, `detail` says why."""

    name: str
    created_at: datetime.datetime
    size_bytes: int
    usable: bool = True
    detail: str = ""


class SnapshotVerify(Request, frozen=True, kw_only=True):
    """All of its files are read. With `probe` it is loaded for a try, too, into a machine that never runs."""

    probe: bool = False


class StoredSnapshot(Answer, frozen=True, kw_only=True):
    """Memory at rest: of a sandbox that is stopped or (`checkpoint`) of one of its checkpoints, and what made it.

    `stranded` says why it could not be loaded by the Firecracker that was asked about, and is empty if it could.
    """

    sandbox: str
    checkpoint: str = ""
    engine: str = ""
    version: str = ""
    created_at: datetime.datetime | None = None
    size_bytes: int = 0
    stranded: str = ""


class SnapshotReport(Answer, frozen=True, kw_only=True):
    """Whether a stopped sandbox can go on where it was; `detail` says why not, or when that was."""

    usable: bool
    detail: str
    probed: bool = False
    size_bytes: int = 0
