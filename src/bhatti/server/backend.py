"""What the server asks of the daemon: the one thing between HTTP and machines.

`ref` is an id, as `resolve` gives it for what a person typed, or, for callers within the daemon, a name or the unique
beginning of an id. Every method but `health` raises `Unavailable` (code `starting`) until the daemon has recovered what
an earlier one left.
"""

import abc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from bhatti.guestlink.client import GuestLink
from bhatti.model.origin import Repeat
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.accounts import Accounts
from bhatti.server.jobs import TaskBackend
from bhatti.server.publications import PublicationBackend
from bhatti.server.secrets import SecretBackend
from bhatti.server.templates import TemplateBackend
from bhatti.server.volumes import VolumeBackend

StageCallback = Callable[[str], None]
"""Called with the name of each stage of a creation as it begins."""

EVERYONE = types.SandboxFilter()
AS_IT_CAN = types.SandboxStop()
SOMEHOW = types.SandboxStart()

BuildCallback = Callable[[types.BuildEvent], None]
"""Called on the event loop with each step of a build."""


class Work(Protocol):
    """What a visitor does, as a clause for people; it may become more exact while the visit lasts."""

    doing: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody in a sandbox: the link into it, and what is told of what is done there.

    `rouse` lets it run on if somebody has paused it meanwhile. Raises as `Backend.visit` does.
    """

    link: GuestLink
    work: Work
    rouse: Callable[[], Awaitable[None]]


class Backend(abc.ABC):
    """The daemon as the server sees it."""

    @property
    @abc.abstractmethod
    def accounts(self) -> Accounts:
        """The users, and what they may."""

    @abc.abstractmethod
    def resolve(self, caller: Caller, ref: str) -> str:
        """Return the id of the sandbox that `caller` means by `ref`: an id, a name, or the unique beginning of an id.

        What the caller may not see is `NotFound`, in the words for what there is not. Raises `InvalidRequest` (code
        `ambiguous-id` or `ambiguous-name`).
        """

    @abc.abstractmethod
    def health(self) -> types.Health:
        """Say whether requests are served; never raises, never waits."""

    @abc.abstractmethod
    def version(self) -> types.Version:
        """Say which daemon this is; never raises, never waits."""

    @abc.abstractmethod
    async def doctor(self) -> types.DoctorReport:
        """Look at this machine. Safe to cancel."""

    @abc.abstractmethod
    async def create(
        self,
        request: types.SandboxCreate,
        on_stage: StageCallback,
        caller: Caller = ADMIN,
        repeat: Repeat | None = None,
    ) -> types.Sandbox:
        """Make a sandbox, which is the caller's; raises `LimitExceeded` if it is more than they may have.

        With `repeat`, the sandbox that the caller has by the same key is the answer, if there is one; raises `Conflict`
        (code `idempotency-key-reused`) if something else was asked for then. When cancelled, the machine is undone
        before this returns.
        """

    @abc.abstractmethod
    async def fork(
        self,
        ref: str,
        request: types.SandboxFork,
        on_stage: StageCallback,
        caller: Caller = ADMIN,
        repeat: Repeat | None = None,
    ) -> types.Sandbox:
        """Make a sandbox from another, which is woken if it sleeps; it is the caller's, whosever the other is.

        Raises `NotFound`, `Busy`, `Conflict`, `LimitExceeded`. `repeat` and cancelling are as with `create`.
        """

    @abc.abstractmethod
    async def checkpoint(self, ref: str, name: str) -> types.Checkpoint:
        """Keep a copy of a sandbox, which is woken if it sleeps. When cancelled, it is made all the same."""

    @abc.abstractmethod
    async def checkpoints(self, ref: str) -> list[types.Checkpoint]:
        """Return the checkpoints of a sandbox, oldest first. Safe to cancel."""

    @abc.abstractmethod
    async def restore_checkpoint(self, ref: str, name: str) -> types.Sandbox:
        """Put a sandbox back to a checkpoint. When cancelled, it is put back all the same."""

    @abc.abstractmethod
    async def remove_checkpoint(self, ref: str, name: str) -> None:
        """Remove a checkpoint. When cancelled, it is removed all the same."""

    @abc.abstractmethod
    async def verify_snapshot(self, ref: str, request: types.SnapshotVerify) -> types.SnapshotReport:
        """Say whether the memory of a stopped sandbox can be loaded; raises `Conflict` if it is not stopped."""

    @abc.abstractmethod
    async def sandboxes(self, query: types.SandboxFilter = EVERYONE, caller: Caller = ADMIN) -> list[types.Sandbox]:
        """Return the sandboxes that are asked for and the caller may see, the newest first. Safe to cancel."""

    @abc.abstractmethod
    async def sandbox(self, ref: str) -> types.Sandbox:
        """Return one sandbox; raises `NotFound`. Safe to cancel."""

    @abc.abstractmethod
    async def stop_sandbox(self, ref: str, request: types.SandboxStop = AS_IT_CAN) -> types.Sandbox:
        """Put a sandbox to sleep; raises `NotFound`, `Busy`, `Conflict`. When cancelled, it is stopped all the same."""

    @abc.abstractmethod
    async def start_sandbox(self, ref: str, request: types.SandboxStart = SOMEHOW) -> types.Sandbox:
        """Wake a sandbox; raises `NotFound`, `Busy`, `Conflict` (code `memory-lost` if its memory is insisted on, among
        others). When cancelled, it is started all the same."""

    @abc.abstractmethod
    async def destroy(self, ref: str) -> None:
        """End a sandbox; raises `NotFound` or `Busy`. When cancelled, it is ended all the same."""

    @abc.abstractmethod
    async def pause_sandbox(self, ref: str) -> types.Sandbox:
        """Halt a sandbox; raises `NotFound`, `Busy`, `Conflict`. When cancelled, it is halted all the same."""

    @abc.abstractmethod
    async def resume_sandbox(self, ref: str) -> types.Sandbox:
        """Let a halted sandbox run on; raises `NotFound`, `Busy`, `Conflict`. When cancelled, it runs all the same."""

    @abc.abstractmethod
    async def edit(self, ref: str, request: types.SandboxEdit) -> types.Sandbox:
        """Change what can be changed of a sandbox at any time; one that sleeps sleeps on.

        Raises `NotFound`, `Conflict` (code `name-taken`), `InvalidRequest`. When cancelled, it is changed all the same.
        """

    @abc.abstractmethod
    def visit(self, ref: str, doing: str, *, wake: bool = True) -> AbstractAsyncContextManager[Visitor]:
        """Return a block in which a sandbox is used, kept hot for that long; entering wakes it if it sleeps.

        `doing` is a clause for people ("exec is under way"): it is told as the reason for which the sandbox is hot.
        Raises `NotFound`, or `Conflict` (code `not-running`) with the cause of its death, or (code `asleep`) if it
        sleeps and is not to be woken. Safe to cancel.
        """

    @abc.abstractmethod
    async def explain(self, ref: str, error: Exception) -> Exception:
        """Return what to tell the caller whose call into the guest failed with `error`.

        That is `error` itself, unless the machine has died meanwhile: then that is what the caller needs to know.
        """

    @abc.abstractmethod
    async def images(self, caller: Caller = ADMIN) -> list[types.Image]:
        """Return the images that the caller may use. Safe to cancel."""

    @abc.abstractmethod
    async def image(self, name: str, caller: Caller = ADMIN) -> types.Image:
        """Return one of those; raises `NotFound`. Safe to cancel."""

    @abc.abstractmethod
    async def build_image(self, request: types.ImageBuild, on_progress: BuildCallback) -> types.Image:
        """Build what is missing of an image. When cancelled, the build goes on, and another call waits for it."""

    @abc.abstractmethod
    async def import_image(self, request: types.ImageImport, on_progress: BuildCallback) -> types.Image:
        """Take over an image of this machine. When cancelled, the import goes on, and another call waits for it."""

    @abc.abstractmethod
    async def pull_image(
        self, request: types.ImagePull, on_progress: BuildCallback, caller: Caller = ADMIN
    ) -> types.Image:
        """Take over an image of a registry, which is the caller's; raises `LimitExceeded`, `Forbidden`.

        When cancelled, the pull goes on, and another call waits for it.
        """

    @abc.abstractmethod
    async def remove_image(self, name: str, caller: Caller = ADMIN) -> None:
        """Remove an image; raises `NotFound`, `Forbidden`, or `Conflict` (code `image-in-use`)."""

    @abc.abstractmethod
    async def prune_images(self) -> types.ImagesPruned:
        """Remove the files of images that are gone or were replaced, and that no sandbox needs, asleep or awake.

        Raises `Busy` while sandboxes are being made, `Conflict` (code `images-shared`). When cancelled, it is done all
        the same.
        """

    @abc.abstractmethod
    async def start_task(self, request: types.TaskStart, caller: Caller = ADMIN) -> types.Task:
        """Begin long work of the caller's, and return while it goes on; raises `InvalidRequest`."""

    @property
    @abc.abstractmethod
    def tasks(self) -> TaskBackend:
        """The long work that goes on, and that has ended; it refuses by itself while the daemon starts or stops."""

    @property
    @abc.abstractmethod
    def volumes(self) -> VolumeBackend:
        """What can be done with volumes; it refuses by itself while the daemon starts or stops."""

    @property
    @abc.abstractmethod
    def publications(self) -> PublicationBackend:
        """What can be done with published ports; it refuses by itself while the daemon starts or stops."""

    @property
    @abc.abstractmethod
    def secrets(self) -> SecretBackend:
        """What can be done with secrets; it refuses by itself while the daemon starts or stops."""

    @property
    @abc.abstractmethod
    def templates(self) -> TemplateBackend:
        """What can be done with templates; it refuses by itself while the daemon starts or stops."""

    @property
    @abc.abstractmethod
    def watch(self) -> "Watch":
        """What there is to see of the daemon's work; there from the beginning to the end."""


class Watch(abc.ABC):
    """The daemon's work, as those see it who watch."""

    @abc.abstractmethod
    async def events(self, query: types.EventsQuery, caller: Caller = ADMIN) -> list[types.LoggedEvent]:
        """Return what happened that the caller may see, the oldest first. Safe to cancel."""

    @abc.abstractmethod
    async def follow_events(
        self, query: types.EventsQuery, caller: Caller = ADMIN
    ) -> AsyncGenerator[types.NewsEvent, None]:
        """Return what happens that the caller may see, as it does, from the query's `since` on.

        Ends with `Unavailable`. Safe to cancel.
        """

    @abc.abstractmethod
    async def metrics(self) -> bytes:
        """Return the daemon's figures as Prometheus reads them. Safe to cancel."""

    @abc.abstractmethod
    def backup(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Make a copy of the store as it is now, and give its pieces for the block; raises `OutOfSpace`."""

    @abc.abstractmethod
    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count an answer; never raises, never waits. `operation` is empty where there is none."""
