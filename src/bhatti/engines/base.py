"""What an engine is. This file has the only copy of these docstrings; engines add what is special to them.

An engine makes, keeps and ends machines. It owns one directory per sandbox and writes there whatever it needs to find
its machines again: the daemon may be killed at any moment, the machines go on, and the next daemon's engine `adopt`s
them. An engine never touches the store and never decides policy.

Everything that happens *inside* a sandbox (exec, files, terminals, tunnels) goes through the `GuestLink` that `link`
returns, so that it is the same code on every engine.
"""

import abc
import builtins
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from bhatti.engines.deaths import Deaths
from bhatti.engines.volumes import VolumeKeeper
from bhatti.errors import InvalidRequest
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec, Status, Temperature


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this engine can do on this host; the API shows it and the conformance suite skips by it.

    `disk_limit`: what a sandbox writes is bounded by its size of disk, `volume_limit`: what goes into a volume by that
    volume's. `volume_clone`: volumes can be cloned. `sudo`: programs inside may gain rights. `fork_volumes`: a sandbox
    with volumes can be made by fork; otherwise it boots.
    """

    own_kernel: bool
    pause: bool
    memory_snapshot: bool
    fork: bool
    bridge_network: bool
    rootless: bool
    disk_limit: bool = True
    volume_limit: bool = True
    volume_clone: bool = True
    sudo: bool = True
    fork_volumes: bool = True


class CauseOfDeath(msgspec.Struct, frozen=True, kw_only=True):
    """Why a machine is not running any more.

    `kind` is one of `exit`, `guest-panic`, `killed`, `oom`, `disk-full`, `boot-failed`, `host-crash`, `operator`;
    `detail` is for people; `console_tail` holds the last lines of the console, at most 4 KiB.
    """

    kind: str
    detail: str
    console_tail: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as its engine sees it now.

    `how` says which way it came to life (`booted`, `forked`, `pooled`, `restored`, `disk-boot`) and `why` the reason
    for that way; `timings_ms` has the milliseconds that each part of the last start took. `details` are what one engine
    knows and others do not, by name.
    """

    id: str
    status: Status
    temperature: Temperature
    address: str | None = None
    pid: int | None = None
    accelerator: str = ""
    how: str = "booted"
    why: str = ""
    timings_ms: dict[str, float] = {}
    cause: CauseOfDeath | None = None
    details: dict[str, str] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fact about this host that matters to an engine, for `bhatti doctor`.

    `level` is `ok`, `warning` (something is missing that can be done without) or `failed` (no sandbox will start);
    `hint` says what to do, as a command where there is one.
    """

    name: str
    level: Literal["ok", "warning", "failed"]
    detail: str
    hint: str | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A named copy of a sandbox as it was: memory and disk.

    `created_at` is in seconds since 1970, `size_bytes` what it takes on the disk. If it is not `usable`, `detail` says
    why.
    """

    name: str
    created_at: float
    size_bytes: int
    usable: bool = True
    detail: str = ""


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about the memory snapshot of a stopped machine.

    `usable` says whether `start` would restore it, `detail` why not, or when it was taken; `probed` that it has been
    loaded for a try; `size_bytes` is what it takes on the disk.
    """

    usable: bool
    detail: str
    probed: bool = False
    size_bytes: int = 0


ProgressCallback = Callable[[str], None]
"""Called with the name of each stage as it begins (`layer`, `boot`, `agent` …); must not block."""


class Engine(abc.ABC):
    """One way to run sandboxes.

    Use as an async context manager: entering checks that the host has what the engine needs, leaving closes links and
    monitors but leaves machines running. All methods raise `NotFound` for an id the engine does not have. None of them
    takes a lock per sandbox: the daemon makes exclusive calls one at a time (`daemon.exclusive`).

    Methods that need a capability raise `InvalidRequest` (code `unsupported`) on engines that lack it.
    """

    name: str

    images_elsewhere = False
    """Whether it looks for images that the store does not have in places of its own, such as registries."""

    @classmethod
    def examine(cls, settings: Any) -> list[Finding]:  # noqa: ANN401  # each engine has settings of its own
        """Return what this engine finds on this host, good and bad, without changing anything. Blocks for a moment."""
        return []

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What this engine can do on this host. Constant once the engine has been entered."""

    @property
    def deaths(self) -> Deaths:
        """Where to hear, once the engine has been entered, of machines that end without an order.

        What has become of such a machine, `status` says. Not every engine hears of every death by itself.
        """
        return Deaths()

    @property
    def ready_mib(self) -> int:
        """How much memory is promised to machines that were made before anybody asked for one."""
        return 0

    async def __aenter__(self) -> Self:
        """Check the host and take up what is needed; raises `MissingDependency` naming the package to install."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `aclose`."""
        await self.aclose()

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Free connections and tasks; machines go on running. Idempotent; frees even when it fails."""

    @abc.abstractmethod
    async def adopt(self) -> list[Machine]:
        """Find the machines that an earlier engine left and take them over; return all of them.

        A machine is the earlier one only if pid, start time and monitor agree; one that is gone is returned as
        `failed` with its cause. Half-made machines without a complete record are undone. Call once, before anything
        else.
        """

    @abc.abstractmethod
    async def create(self, spec: SandboxSpec, *, progress: ProgressCallback | None = None) -> Machine:
        """Make a machine and wait until its agent answers: nothing → `running`.

        The answer's `how` is `forked` when it was woken from a golden snapshot, `pooled` when that had been done before
        it was asked for, else `booted`, and `why` says why: the first sandbox of an image and shape boots, and what the
        next are forked from is then made in background.

        Raises `NotFound` (image), `CorruptData` (image), `OutOfSpace`, `MissingDependency`, `EngineFailure` (the
        process died during boot; the message has the console's tail), `GuestTimeout` (it never answered).
        Whatever is raised, and when cancelled, nothing of the machine is left.
        """

    async def prepare(self, spec: SandboxSpec) -> None:
        """Make ready what later `create`s of the same image and shape are forked from, unless it is.

        Only image, CPUs, memory and disk of `spec` count; nothing else of it is used or kept. Needs
        `Capabilities.fork`. Raises like `create`. Safe to cancel: nothing half-made is left.
        """
        raise self._unable("prepare sandboxes")

    async def fork(
        self,
        source_id: str,
        spec: SandboxSpec,
        *,
        checkpoint: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Machine:
        """Make a sandbox that goes on from where another one is, or was at a `checkpoint`: nothing → `running`.

        It has the processes and the disk of the source, which is made hot and halted for as long as copying its memory
        and disk takes; with a checkpoint the source does not matter. The fork is somebody of its own: id, name, token,
        address, machine id, entropy; environment and files of `spec` are added. Image, CPUs, memory and disk must be
        the source's (`InvalidRequest`, code `shape-differs`). Needs `Capabilities.fork`. Raises `Conflict` (codes
        `not-running`, `has-volumes`, `checkpoint-unusable`), `NotFound`, and like `create`. When cancelled, nothing of
        the fork is left.
        """
        raise self._unable("fork a sandbox")

    async def checkpoint(self, sandbox_id: str, name: str) -> Checkpoint:
        """Keep a copy of a running sandbox, memory and disk, as it is at one moment; it is halted meanwhile.

        Needs `Capabilities.memory_snapshot`. Raises `Conflict` (codes `checkpoint-exists`, `not-running` unless hot,
        `has-volumes`), `InvalidRequest` (code `bad-name`), `OutOfSpace`. When cancelled it is there or nothing is.
        """
        raise self._unable("keep a checkpoint")

    async def checkpoints(self, sandbox_id: str) -> builtins.list[Checkpoint]:
        """Return the checkpoints of a sandbox, oldest first. Safe to cancel."""
        raise self._unable("list checkpoints")

    async def remove_checkpoint(self, sandbox_id: str, name: str) -> None:
        """Remove a checkpoint; forks of it go on. Raises `NotFound` (code `checkpoint-not-found`)."""
        raise self._unable("remove a checkpoint")

    async def restore_checkpoint(
        self, sandbox_id: str, name: str, *, progress: ProgressCallback | None = None
    ) -> Machine:
        """Put a sandbox back to what it was at a checkpoint: any status → `running`; what came after is lost.

        Raises `NotFound` (code `checkpoint-not-found`), and, with the sandbox as it was, `Conflict` (code
        `checkpoint-unusable`) and `OutOfSpace`; like `start` with `require_memory` after that. Shielded against
        cancellation.
        """
        raise self._unable("restore a checkpoint")

    @abc.abstractmethod
    async def destroy(self, sandbox_id: str) -> None:
        """End the machine in whatever state it is and remove all it had, disk included.

        Shielded against cancellation: once begun it ends. Safe to repeat until it succeeds.
        """

    @abc.abstractmethod
    async def status(self, sandbox_id: str) -> Machine:
        """Return the machine as it is now; asks the host (process, monitor), never the guest. Safe to cancel."""

    @abc.abstractmethod
    async def list(self) -> list[Machine]:
        """Return all machines of this engine, oldest first. Safe to cancel."""

    async def pause(self, sandbox_id: str) -> Machine:
        """Halt the machine's processors, its memory and connections kept: hot → warm. A warm one stays as it is.

        Needs `Capabilities.pause`. Raises `Conflict` (code `not-running`) when it is cold. Safe to cancel: it is then
        hot or warm, as `status` says.
        """
        raise self._unable("pause a sandbox")

    async def resume(self, sandbox_id: str) -> Machine:
        """Let a paused machine run on, its clock set: warm → hot. A hot one stays as it is.

        Needs `Capabilities.pause`. Raises `Conflict` (code `not-running`) when it is cold, `GuestTimeout` when it runs
        but its agent does not answer. Safe to cancel, like `pause`.
        """
        raise self._unable("resume a sandbox")

    async def stop(self, sandbox_id: str, *, memory: bool = True) -> Machine:
        """End the machine's process and keep its disk, and with `memory` its memory: `running` → `stopped`, cold.

        The default needs `Capabilities.memory_snapshot`; without `memory` the guest is shut down, its programs told to
        end. When this returns, everything needed for `start` is durable. Raises `Conflict` (code
        `illegal-transition`) unless it runs, `OutOfSpace` and `EngineFailure` when the memory cannot be saved: it then
        runs on, or is `failed` if it died of it. Shielded against cancellation: once begun it ends.
        """
        raise self._unable("stop a sandbox")

    async def start(
        self, sandbox_id: str, *, require_memory: bool = False, progress: ProgressCallback | None = None
    ) -> Machine:
        """Bring a `stopped` or `failed` machine up: → `running`, hot.

        The answer's `how` is `restored` when every process is where it was; it is `disk-boot` when that is impossible,
        and `why` says what was wrong with the memory snapshot. With `require_memory` that case raises `Conflict` (code
        `memory-lost`) and changes nothing. A snapshot is loaded once: it is spent, durably, before the guest runs.
        Raises `Conflict` (code `illegal-transition`) when it runs, and like `create`; a machine whose boot fails is
        `failed`. Restoring is shielded against cancellation; a cancelled boot leaves the machine as it was.
        """
        raise self._unable("start a sandbox")

    async def ensure_hot(self, sandbox_id: str) -> Machine:
        """Make sure that the guest can be asked something: resume it when warm, start it when cold. No-op when hot.

        Raises `Conflict` (code `not-running`) when it is `failed`, which takes a decision; else like `resume` and
        `start`, and is as safe to cancel.
        """
        raise self._unable("wake a sandbox")

    async def verify_snapshot(self, sandbox_id: str, *, content: bool = False, probe: bool = False) -> SnapshotReport:
        """Check the memory snapshot of a stopped machine: could `start` load it?

        With `content` all of its memory is read and compared with the checksum made when it was stopped. With `probe`
        it is loaded for real, into a throw-away process that never runs, so that neither memory nor disk change. Raises
        `Conflict` (code `illegal-transition`) when it is not stopped. Safe to cancel.
        """
        raise self._unable("verify a snapshot")

    @abc.abstractmethod
    def link(self, sandbox_id: str) -> GuestLink:
        """Return the connection pool to the guest's agent; the engine owns and closes it.

        Raises `Conflict` (code `not-running`) when the machine is not hot.
        """

    @abc.abstractmethod
    def console(self, sandbox_id: str, *, max_bytes: int = 65_536) -> str:
        """Return the last `max_bytes` of what the guest wrote to its console, undecodable bytes replaced.

        Blocks for the moment that reading a file takes: call it from a worker thread.
        """

    async def release_images(self) -> None:
        """Remove what is kept only to make sandboxes of images that are gone or have been replaced.

        Raises `Busy` while a sandbox is being made. Safe to cancel.
        """
        return

    async def needed_files(self) -> frozenset[Path]:
        """Return the files of images that machines need: what they were booted from, asleep or awake, and copies of
        them. Safe to cancel.

        Raises `Busy` while of some machine that is not known yet. One that is begun after that is made of images as
        they are called then.
        """
        return frozenset()

    @property
    def volumes(self) -> VolumeKeeper:
        """Where this engine's volumes are. Raises `InvalidRequest` (code `unsupported`) if it knows none."""
        raise self._unable("keep volumes")

    def _unable(self, doing: str) -> InvalidRequest:
        return InvalidRequest(
            f"the engine {self.name} cannot {doing}",
            hint="`bhatti version --json` says what it can do",
            code="unsupported",
        )
