"""The QEMU engine: any Linux machine, with KVM where it works and emulation where it does not."""

import builtins
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import anyio

from bhatti.engines.base import Capabilities, Checkpoint, Engine, Finding, Machine, ProgressCallback, SnapshotReport
from bhatti.engines.deaths import Deaths
from bhatti.engines.qemu import console, doctor
from bhatti.engines.qemu.adopting import adopt_machine, end_strays
from bhatti.engines.qemu.command import console_at
from bhatti.engines.qemu.files import MachineFiles, directories_in, remove_files
from bhatti.engines.qemu.fork import check_shape, fork_obstacle, sandbox_exists
from bhatti.engines.qemu.golden import GoldenSnapshots
from bhatti.engines.qemu.host import QemuHost, open_host
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.mold import Mold, new_directory, read_mold
from bhatti.engines.qemu.needs import needed_files
from bhatti.engines.qemu.pool import ReadyForks
from bhatti.engines.qemu.process import ProcessIdentity, processes_with
from bhatti.engines.qemu.record import Phase
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.stages import Stages, nobody_asked
from bhatti.engines.volume_files import VolumeFiles
from bhatti.errors import Busy, EngineFailure, NotFound, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.model.lifecycle import Event, after
from bhatti.model.sandbox import SandboxSpec, Status, Temperature, checked_name

log = logging.getLogger(__name__)


class QemuEngine(Engine):
    """All machines below one state directory."""

    name = "qemu"
    _kind = QemuMachine
    _open_host = staticmethod(open_host)

    def __init__(self, settings: QemuSettings) -> None:
        self.settings = settings
        self._opened: QemuHost | None = None
        self._machines: dict[str, QemuMachine] = {}
        self._snapshots: GoldenSnapshots | None = None
        self._pool: ReadyForks | None = None
        self._trimmer = console.Trimmer(self._consoles)

    @classmethod
    def examine(cls, settings: QemuSettings) -> list[Finding]:
        """See `Engine.examine`."""
        return doctor.examine(settings)

    @property
    def capabilities(self) -> Capabilities:
        """See `Engine.capabilities`."""
        return Capabilities(
            own_kernel=True,
            pause=True,
            memory_snapshot=True,
            fork=True,
            bridge_network=self._host.networks.new == "bridge",
            rootless=True,
        )

    async def release_images(self) -> None:
        """See `Engine.release_images`: golden snapshots."""
        if self._ready.gives_way:
            raise Busy("a sandbox is being made, perhaps of what would be removed", hint="try again in a moment")
        await anyio.to_thread.run_sync(self._golden.release)

    async def needed_files(self) -> frozenset[Path]:
        """See `Engine.needed_files`."""
        return await anyio.to_thread.run_sync(needed_files, self.settings)

    @property
    def deaths(self) -> Deaths:
        """See `Engine.deaths`."""
        return self._host.deaths

    @property
    def ready_mib(self) -> int:
        """See `Engine.ready_mib`."""
        return 0 if self._pool is None else self._pool.memory_mib

    @property
    def volumes(self) -> VolumeFiles:
        """See `Engine.volumes`."""
        return VolumeFiles(self.settings.volumes_dir)

    @property
    def host(self) -> QemuHost:
        """What the engine found when it was entered: QEMU, accelerator, network, with reasons."""
        return self._host

    async def __aenter__(self) -> Self:
        """See `Engine.__aenter__`."""
        self._opened = await anyio.to_thread.run_sync(self._open_host, self.settings)
        verdict = self._opened.verdict
        log.info("%s %s, %s: %s", self.name, self._opened.version, verdict.accelerator, verdict.reason)
        networks = self._opened.networks
        log.info("network %s: %s", networks.new, networks.reason)
        self._trimmer.begin()
        return self

    async def aclose(self) -> None:
        """See `Engine.aclose`; with the last machine gone, bridge and firewall table go too."""
        self._trimmer.end()
        with anyio.CancelScope(shield=True):
            try:
                for part in (self._snapshots, self._pool):
                    if part is not None:
                        await part.aclose()
                self._snapshots = self._pool = None
                for machine in self._machines.values():
                    await machine.aclose()
            finally:
                self._machines.clear()
                host, self._opened = self._opened, None
                if host is not None:
                    await host.networks.aclose()

    async def adopt(self) -> list[Machine]:
        """See `Engine.adopt`."""
        # What an earlier engine was copying for a fork is of no use to anybody.
        await anyio.to_thread.run_sync(remove_files, self.settings.molds_dir)
        await anyio.to_thread.run_sync(self._golden.sweep)
        for directory in await anyio.to_thread.run_sync(directories_in, self.settings.sandboxes_dir):
            machine = await adopt_machine(self._kind, self._host, directory)
            if machine is not None:
                self._machines[machine.spec.id] = machine
        usable = [machine for machine in self._machines.values() if machine.record.phase is not Phase.FAILED]
        await end_strays(self._processes, {machine.record.pid for machine in usable})
        # A stopped machine keeps its tap and address: its memory knows them.
        if swept := await self._host.networks.sweep({machine.body for machine in usable}):
            log.warning("removed the network devices of %s, which do not run", ", ".join(swept))
        return await self.list()

    async def create(self, spec: SandboxSpec, *, progress: ProgressCallback | None = None) -> Machine:
        """See `Engine.create`."""
        checked_name(spec.id)
        if spec.id in self._machines:
            raise sandbox_exists(spec.id)
        with self._ready.giving_way():
            mold, why = await self._find_mold(spec)
            if mold is not None:
                self._ready.want(mold, spec.owner)
                idle = self._ready.take(mold, spec)
                try:
                    return await self._make(spec, lambda made, tell: self._fork(made, spec, mold, tell), progress, idle)
                except (EngineFailure, Unavailable) as error:
                    why = f"its fork did not come up: {error.message}"
                    log.warning("sandbox %s: %s", spec.id, why)
            made = await self._make(spec, lambda machine, tell: machine.boot(tell, why=why), progress)
            if mold is None and self.settings.fork and fork_obstacle(spec) is None:
                # Not before: two machines that boot at once take twice as long, and somebody waits for this one.
                self._golden.ensure_soon(spec, lambda mold: self._ready.want(mold, spec.owner))
            return made

    async def prepare(self, spec: SandboxSpec) -> None:
        """See `Engine.prepare`."""
        await self._golden.ensure(spec)

    async def fork(
        self,
        source_id: str,
        spec: SandboxSpec,
        *,
        checkpoint: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Machine:
        """See `Engine.fork`."""
        checked_name(spec.id)
        source = self._machine(source_id)
        if spec.id in self._machines:
            raise sandbox_exists(spec.id)
        check_shape(source.spec, spec)
        if checkpoint is not None:
            mold = await anyio.to_thread.run_sync(source.read_checkpoint, checkpoint)
            return await self._make(spec, lambda machine, tell: self._fork(machine, spec, mold, tell), progress)
        if (await source.look()).temperature is Temperature.WARM:
            await source.resume()
        source.link()  # raises unless it is hot now
        directory = self.settings.molds_dir / spec.id
        try:
            copy = await self._copy_of(source, directory)
            return await self._make(spec, lambda machine, tell: self._fork(machine, spec, copy, tell), progress)
        finally:
            # The fork has mapped what it needs; what is mapped stays.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(remove_files, directory)

    async def checkpoint(self, sandbox_id: str, name: str) -> Checkpoint:
        """See `Engine.checkpoint`."""
        machine = self._machine(sandbox_id)
        checked_name(name)
        machine.link()  # raises unless it is hot
        return await machine.checkpoint(name)

    async def checkpoints(self, sandbox_id: str) -> builtins.list[Checkpoint]:
        """See `Engine.checkpoints`."""
        return await anyio.to_thread.run_sync(self._machine(sandbox_id).checkpoints)

    async def remove_checkpoint(self, sandbox_id: str, name: str) -> None:
        """See `Engine.remove_checkpoint`."""
        await anyio.to_thread.run_sync(self._machine(sandbox_id).remove_checkpoint, name)

    async def restore_checkpoint(
        self, sandbox_id: str, name: str, *, progress: ProgressCallback | None = None
    ) -> Machine:
        """See `Engine.restore_checkpoint`."""
        machine = self._machine(sandbox_id)
        await machine.go_back(name, progress or nobody_asked)
        return await machine.look()

    async def pause(self, sandbox_id: str) -> Machine:
        """See `Engine.pause`."""
        machine = self._machine(sandbox_id)
        if (await machine.look()).temperature is not Temperature.WARM:
            await machine.pause()
        return await machine.look()

    async def resume(self, sandbox_id: str) -> Machine:
        """See `Engine.resume`."""
        machine = self._machine(sandbox_id)
        seen = await machine.look()
        if seen.temperature is Temperature.COLD:
            machine.link()  # raises: it has none
        if seen.temperature is Temperature.WARM:
            await machine.resume()
            seen = await machine.look()
        return seen

    async def stop(self, sandbox_id: str, *, memory: bool = True) -> Machine:
        """See `Engine.stop`."""
        machine = self._machine(sandbox_id)
        after((await machine.look()).status, Event.STOP, sandbox=machine.spec.name)
        await machine.stop(memory=memory)
        return await machine.look()

    async def start(
        self, sandbox_id: str, *, require_memory: bool = False, progress: ProgressCallback | None = None
    ) -> Machine:
        """See `Engine.start`."""
        machine = self._machine(sandbox_id)
        after((await machine.look()).status, Event.START, sandbox=machine.spec.name)
        await machine.start(progress or nobody_asked, require_memory=require_memory)
        return await machine.look()

    async def ensure_hot(self, sandbox_id: str) -> Machine:
        """See `Engine.ensure_hot`."""
        machine = self._machine(sandbox_id)
        seen = await machine.look()
        if seen.status is Status.STOPPED:
            return await self.start(sandbox_id)
        if seen.temperature is Temperature.WARM:
            await machine.resume()
            seen = await machine.look()
        machine.link()  # raises unless it is hot now
        return seen

    async def verify_snapshot(self, sandbox_id: str, *, content: bool = False, probe: bool = False) -> SnapshotReport:
        """See `Engine.verify_snapshot`."""
        machine = self._machine(sandbox_id)
        after((await machine.look()).status, Event.START, sandbox=machine.spec.name)
        return await machine.verify(content=content, probe=probe)

    async def destroy(self, sandbox_id: str) -> None:
        """See `Engine.destroy`."""
        machine = self._machine(sandbox_id)
        with anyio.CancelScope(shield=True):
            await machine.remove()
            # Only now: a destroy that failed can be asked for again.
            self._machines.pop(sandbox_id, None)
            if machine.spec.owner not in {other.spec.owner for other in self._machines.values()}:
                await self._ready.forsake(machine.spec.owner)

    async def status(self, sandbox_id: str) -> Machine:
        """See `Engine.status`."""
        return await self._machine(sandbox_id).look()

    def link(self, sandbox_id: str) -> GuestLink:
        """See `Engine.link`."""
        return self._machine(sandbox_id).link()

    def console(self, sandbox_id: str, *, max_bytes: int = 65_536) -> str:
        """See `Engine.console`."""
        return console.tail(self._machine(sandbox_id).files.console, max_bytes)

    async def list(self) -> list[Machine]:  # last of the public ones: below it, `list` means this method
        """See `Engine.list`."""
        machines = sorted(self._machines.values(), key=lambda machine: machine.record.created_at)
        return [await machine.look() for machine in machines]

    async def _make(
        self,
        spec: SandboxSpec,
        work: Callable[[QemuMachine, ProgressCallback], Awaitable[None]],
        progress: ProgressCallback | None,
        ready: QemuMachine | None = None,
    ) -> Machine:
        """Make a machine by `work`, or leave nothing of it."""
        machine = self._machines[spec.id] = ready or self._kind.new(self._host, spec)
        try:
            await work(machine, progress or nobody_asked)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await machine.remove()
                del self._machines[spec.id]
            raise
        return await machine.look()

    async def _find_mold(self, spec: SandboxSpec) -> tuple[Mold | None, str]:
        """Return the golden snapshot for `spec`, or why there is none to be used."""
        if not self.settings.fork:
            return None, "forks are switched off in the settings"
        obstacle = fork_obstacle(spec)
        if obstacle is not None:
            return None, obstacle
        found = await anyio.to_thread.run_sync(self._golden.find, spec)
        if isinstance(found, Mold):
            return found, ""
        return None, f"the first of its image and shape: {found}"

    async def _fork(self, machine: QemuMachine, spec: SandboxSpec, mold: Mold, progress: ProgressCallback) -> None:
        stages = Stages(progress, "images")
        if machine.waits:
            await machine.become(spec, stages)
        else:
            await machine.wake_from(mold, stages, why=f"of {mold.record.spec.name}")

    async def _copy_of(self, source: QemuMachine, directory: Path) -> Mold:
        """Return a mold of a running machine, which goes on."""
        await anyio.to_thread.run_sync(new_directory, directory)
        await source.cast(MachineFiles(directory), lasting=False)
        mold = await anyio.to_thread.run_sync(read_mold, self._host, directory)
        if isinstance(mold, str):
            raise EngineFailure(f"the copy of sandbox {source.spec.name!r} came out wrong: {mold}")
        return mold

    async def _make_golden(self, spec: SandboxSpec, files: MachineFiles) -> None:
        """Boot a golden machine, make it a mold, end it."""
        machine = self._kind.new(self._host, spec)
        try:
            await machine.boot(nobody_asked, why="golden", alone=True)
            await machine.cast(files)
        finally:
            with anyio.CancelScope(shield=True):
                await machine.remove()

    @property
    def _golden(self) -> GoldenSnapshots:
        if self._snapshots is None:
            self._snapshots = GoldenSnapshots(self._host, self._make_golden)
        return self._snapshots

    @property
    def _ready(self) -> ReadyForks:
        if self._pool is None:
            self._pool = ReadyForks(self._host, self.settings.ready_pool if self.settings.fork else 0, self._kind)
        return self._pool

    @property
    def _host(self) -> QemuHost:
        if self._opened is None:
            raise Unavailable("the engine is not open", hint="use it as an async context manager", code="not-open")
        return self._opened

    def _machine(self, sandbox_id: str) -> QemuMachine:
        try:
            return self._machines[sandbox_id]
        except KeyError:
            raise NotFound(
                f"the engine has no sandbox {sandbox_id!r}",
                hint="`bhatti ls` shows what there is",
                code="sandbox-not-found",
            ) from None

    def _processes(self) -> builtins.list[ProcessIdentity]:
        """Return all processes that run machines of this state directory. Blocks."""
        place = self.settings.sandboxes_dir
        return processes_with(f"{console_at(place)}/", place)

    def _consoles(self) -> builtins.list[Path]:
        return [machine.files.console for machine in self._machines.values()]
