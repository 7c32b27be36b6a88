"""One machine: booted, adopted, looked at, ended. Every step of its end has its reason beside it.

Theory of operation. A machine is its directory, its process and its connection. The record in the directory is written
before each of them can come to be, so whatever we are killed in the middle of, the next engine knows what to look for.
Nobody tells us when a machine dies of itself: the pidfd does, and a post-mortem is made at once, while logs are fresh.
"""

import asyncio
import logging
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from bhatti.engines.base import CauseOfDeath, Machine, ProgressCallback
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu import boot_errors, command, console, death, network
from bhatti.engines.qemu.files import (
    MachineFiles,
    check_space,
    find_volumes,
    make_config,
    make_disk,
    remove_files,
)
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.plan import largest_file_bytes, machine_name, plan_hardware
from bhatti.engines.qemu.process import Exit, VmProcess, processes_with
from bhatti.engines.qemu.qmp import Monitor, listen
from bhatti.engines.qemu.record import MachineRecord, Phase, write_record
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError, Conflict, EngineFailure, GuestTimeout
from bhatti.guestlink.client import GuestLink
from bhatti.images.store import BootFiles
from bhatti.model.sandbox import SandboxSpec, Status, Temperature

log = logging.getLogger(__name__)

MONITOR_TIMEOUT_S = 20.0
"""From QEMU's start to its greeting: 50 ms, on a host with ten starting at once some seconds."""

LAST_GASP_S = 1.0
"""After a connection breaks, how long the process may take to turn out dead."""

STATUS_TIMEOUT_S = 2.0

FLUSH_TIMEOUT_S = 10.0
"""What a guest may take to write its volumes before it is ended; a hanging one must not keep anybody waiting."""

T = TypeVar("T")


class QemuMachine:
    """One machine of the engine; made by `new` or `found`, ended by `remove`, let go by `aclose`."""

    def __init__(self, host: QemuHost, record: MachineRecord, *, exists: bool) -> None:
        self.record = record
        self.files = MachineFiles(host.settings.sandboxes_dir / record.spec.id)
        self._host = host
        self._process: VmProcess | None = None
        self._monitor: Monitor | None = None
        self._link: GuestLink | None = None
        self._post_mortem: asyncio.Future[None] | None = None
        self._exists = exists
        self._ending = False

    @classmethod
    def new(cls, host: QemuHost, spec: SandboxSpec) -> "QemuMachine":
        """Return a machine of which nothing exists yet."""
        record = MachineRecord(
            phase=Phase.CREATING,
            spec=spec,
            boot_id=host.boot_id,
            created_at=time.time(),
            network=host.networks.new.kind,
            accelerator=host.verdict.accelerator,
        )
        return cls(host, record, exists=False)

    @property
    def spec(self) -> SandboxSpec:
        """What was asked for."""
        return self.record.spec

    @property
    def _network(self) -> network.MachineNetwork:
        return self._host.networks.of(self.record.network)

    async def boot(self, progress: ProgressCallback) -> None:
        """Make everything and wait for the agent. On failure or cancellation the caller must `remove`."""
        stages = Stages(progress, "images")
        with disk_errors_explained(self.files.directory):
            await anyio.to_thread.run_sync(self._make_directory)
            boot, volumes = await anyio.to_thread.run_sync(self._find_images)
            stages.begin("network")
            plug = await self._network.attach(self.spec.id)
            stages.begin("config")
            await anyio.to_thread.run_sync(make_config, self.files, self.spec, plug.dns)
            stages.begin("layer")
            await anyio.to_thread.run_sync(make_disk, self.files, self.spec.disk_mib)
            stages.begin("qemu")
            await self._start(plan_hardware(self._host, self.spec, self.files, boot, volumes, plug), plug.address)
            stages.begin("agent")
            self._link = self._open_link()
            await self._while_alive(self._wait_for_agent)
            stages.end()
            text = await anyio.to_thread.run_sync(console.tail, self.files.console, console.MAX_CONSOLE_BYTES)
            timings = stages.timings_ms | {f"guest.{k}": v for k, v in console.boot_timings(text).items()}
            await self._note(phase=Phase.RUNNING, timings_ms=timings, why="no golden snapshot")
            assert self._process is not None
            self._process.on_death(self._on_death)

    async def adopt(self) -> None:
        """Take hold of what an earlier engine left; afterwards the machine runs or has failed with its cause."""
        if self.record.phase is Phase.FAILED:
            return
        identity = self.record.identity(self._host.boot_id)
        if identity is None:
            await self._fail(CauseOfDeath(kind="host-crash", detail="the host was restarted while it ran"))
            return
        self._process = await VmProcess.adopt(identity)
        if self._process is None:
            await anyio.to_thread.run_sync(self._examine_body, Exit())
            return
        self._process.on_death(self._on_death)
        try:
            monitor = await Monitor.connect(self.files.monitor, timeout_s=MONITOR_TIMEOUT_S)
            self._monitor = monitor
            name = await monitor.execute("query-name")
            if name != {"name": machine_name(self.spec.id)}:
                raise EngineFailure(f"the monitor in {self.files.directory} is that of {name}", code="not-ours")
        except BhattiError as error:
            # Right pid and start time, so it is ours, but nobody can lead it any more.
            self._ending = True
            await self._process.end()
            await self._fail(CauseOfDeath(kind="killed", detail=f"it could not be adopted: {error.message}"))
            return
        try:
            await self._network.attach(self.spec.id, address=IPv4Address(self.record.address))
        except BhattiError as error:
            # It goes on running with the tap it has; whoever changed the network below it must know.
            log.error("sandbox %s: its network could not be set up again: %s", self.spec.id, error.message)
        self._link = self._open_link()

    async def look(self) -> Machine:
        """Return the machine as it is now."""
        if self._post_mortem is not None:
            await asyncio.shield(self._post_mortem)
        record, temperature, why = self.record, Temperature.COLD, self.record.why
        status = {Phase.CREATING: Status.CREATING, Phase.RUNNING: Status.RUNNING}.get(record.phase, Status.FAILED)
        if status is Status.RUNNING:
            temperature, why = await self._temperature(why)
        return Machine(
            id=self.spec.id,
            status=status,
            temperature=temperature,
            address=record.address or None,
            pid=record.pid if status is Status.RUNNING else None,
            accelerator=record.accelerator,
            how=record.how,
            why=why,
            timings_ms=record.timings_ms,
            cause=record.cause,
        )

    def link(self) -> GuestLink:
        """Return the connection pool to the agent. Raises `Conflict` (code `not-running`)."""
        alive = self._process is not None and self._process.exit is None
        if self._link is None or not alive or self.record.phase is not Phase.RUNNING:
            raise Conflict(
                f"sandbox {self.spec.name!r} is not running ({self.record.phase})",
                hint="see `bhatti inspect` for what became of it",
                code="not-running",
            )
        return self._link

    async def remove(self) -> None:
        """End the machine and remove all it had. Shielded, idempotent, repeatable after a failure."""
        if not self._exists:
            return
        with anyio.CancelScope(shield=True):
            self._ending = True
            # Before anything is gone: killed from here on, the next engine finishes the removal.
            with suppress(OSError):  # a full disk must not keep anybody from freeing it
                await self._note(phase=Phase.DESTROYING)
            await self._flush_volumes()
            # Connections next: requests under way fail with our words rather than with a reset.
            if self._link is not None:
                await self._link.aclose()
                self._link = None
            # Then the process: it holds the tap, and would go on writing to files that are being removed.
            await self._end_process()
            if self._monitor is not None:
                await self._monitor.aclose()
                self._monitor = None
            # The tap and the address: free for the next machine only now that nobody answers there any more.
            await self._network.detach(self.spec.id)
            # The files last: as long as the record is there, whatever step failed will be tried again.
            await anyio.to_thread.run_sync(remove_files, self.files.directory)
            self._exists = False

    async def aclose(self) -> None:
        """Let go of the machine, which goes on running. Idempotent."""
        if self._post_mortem is not None:
            await asyncio.shield(self._post_mortem)
        if self._link is not None:
            await self._link.aclose()
        if self._monitor is not None:
            await self._monitor.aclose()
        if self._process is not None:
            self._process.aclose()

    def _make_directory(self) -> None:
        try:
            self.files.directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise sandbox_exists(self.spec.id) from error
        self._exists = True
        write_record(self.files.directory, self.record)
        check_space(self.files.directory, self.spec.memory_mib)

    def _find_images(self) -> tuple[BootFiles, list[Path]]:
        boot = self._host.images.boot_files(self.spec.image)
        return boot, find_volumes(self._host.settings, self.spec.volumes)

    async def _start(self, hardware: command.Hardware, address: IPv4Address) -> None:
        """Start QEMU and connect to its monitor."""
        listener = await anyio.to_thread.run_sync(listen, self.files.monitor)
        with listener:
            self._process = await VmProcess.spawn(
                command.command_line(hardware),
                log=self.files.log,
                inherit={command.MONITOR_FILE: listener.fileno()},
            )
        identity = self._process.identity
        await self._note(pid=identity.pid, start_time=identity.start_time, address=str(address))
        await anyio.to_thread.run_sync(self._bound_files, hardware)
        self._monitor = await self._while_alive(
            lambda: Monitor.connect(self.files.monitor, timeout_s=MONITOR_TIMEOUT_S)
        )
        if isinstance(hardware.card, command.UserCard):
            table = await self._monitor.execute("human-monitor-command", {"command-line": "info usernet"})
            await self._note(forwards=network.forwarded_ports(str(table)))
        await self._monitor.execute("cont")

    def _bound_files(self, hardware: command.Hardware) -> None:
        """Bound every file that QEMU writes: while we are away, nobody trims the console."""
        assert self._process is not None
        limit = largest_file_bytes(hardware)
        with suppress(ProcessLookupError):
            resource.prlimit(self._process.identity.pid, resource.RLIMIT_FSIZE, (limit, limit))

    async def _wait_for_agent(self) -> None:
        assert self._link is not None
        try:
            await self._link.wait_ready(timeout_s=self._host.settings.boot_timeout_s)
        except GuestTimeout as error:
            tail = await anyio.to_thread.run_sync(console.tail, self.files.console, death.TAIL_BYTES)
            raise boot_errors.silent(self.spec, self._host.settings.boot_timeout_s, tail) from error

    async def _while_alive(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, but raise at once if the process ends before."""
        process = self._process
        assert process is not None
        results: list[T] = []
        failure: BhattiError | None = None

        async def watch(scope: anyio.CancelScope) -> None:
            await process.wait()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, tasks.cancel_scope)
            try:
                results.append(await work())
            except BhattiError as error:
                failure = error
                if not isinstance(error, GuestTimeout):
                    # A connection breaks a little before its process is seen to be dead, which is the better reason.
                    with anyio.move_on_after(LAST_GASP_S):
                        await process.wait()
            tasks.cancel_scope.cancel()
        if process.exit is not None:
            raise await self._boot_failure(process.exit)
        if failure is not None:
            raise failure
        return results[0]

    async def _boot_failure(self, ended: Exit) -> BhattiError:
        files, pid = self.files, self.record.pid
        cause = await anyio.to_thread.run_sync(death.cause_of_death, pid, ended, files.console, files.log)
        return boot_errors.died(self.spec, cause)

    def _open_link(self) -> GuestLink:
        transport = self._network.transport(IPv4Address(self.record.address), self.record.forwards)
        return GuestLink(transport, token=self.spec.token)

    async def _temperature(self, why: str) -> tuple[Temperature, str]:
        """Ask the monitor whether the processors run; a machine whose monitor is silent counts as running."""
        try:
            if self._monitor is None or self._monitor.closed:
                self._monitor = await Monitor.connect(self.files.monitor, timeout_s=STATUS_TIMEOUT_S)
            state = await self._monitor.execute("query-status", timeout_s=STATUS_TIMEOUT_S)
        except BhattiError as error:
            return Temperature.HOT, f"its monitor does not answer: {error.message}"
        name = state.get("status") if isinstance(state, dict) else None
        if name == "io-error":
            return Temperature.WARM, "qemu paused it: the host's disk is full; free space, then start it"
        return (Temperature.HOT if name == "running" else Temperature.WARM), why

    async def _flush_volumes(self) -> None:
        """Let the guest write to its volumes what it has not yet: they outlive it."""
        writable = any(not volume.read_only for volume in self.spec.volumes)
        if not writable or self._link is None or self._process is None or self._process.exit is not None:
            return
        try:
            with anyio.fail_after(FLUSH_TIMEOUT_S):
                await self._link.sync()
        except (BhattiError, TimeoutError) as error:
            log.warning("sandbox %s: its volumes may lack what it wrote last: %s", self.spec.id, error)

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            # We may have been killed between the start of the process and its record: look for it by what it holds.
            for identity in await anyio.to_thread.run_sync(processes_with, self._mark()):
                found = await VmProcess.adopt(identity)
                if found is not None:
                    await found.end()
            return
        monitor = self._monitor
        step = await process.end(monitor.quit if monitor is not None else None)
        log.debug("sandbox %s: process %d ended (%s)", self.spec.id, process.identity.pid, step)

    def _mark(self) -> str:
        """Return the argument that only this machine's process has."""
        return f"guest={machine_name(self.spec.id)},debug-threads=on"

    def _on_death(self, ended: Exit) -> None:
        """Run in the event loop when the process has ended, whoever ended it."""
        if self._ending:
            return
        loop = asyncio.get_running_loop()
        self._post_mortem = loop.run_in_executor(None, self._examine_body, ended)

    def _examine_body(self, ended: Exit) -> None:
        """Find the cause, write it down, free the memory file, which nobody can use any more. Blocks."""
        cause = death.cause_of_death(self.record.pid, ended, self.files.console, self.files.log)
        log.warning("sandbox %s died: %s", self.spec.id, cause.detail)
        self.record = msgspec.structs.replace(self.record, phase=Phase.FAILED, cause=cause)
        try:
            self.files.memory.unlink(missing_ok=True)
            write_record(self.files.directory, self.record)
        except OSError as error:
            # The next engine will find a dead process, and come to the same end by itself.
            log.error("sandbox %s: its cause of death could not be written down: %s", self.spec.id, error)

    async def _fail(self, cause: CauseOfDeath) -> None:
        await self._note(phase=Phase.FAILED, cause=cause)
        await anyio.to_thread.run_sync(lambda: self.files.memory.unlink(missing_ok=True))

    async def _note(self, **changes: object) -> None:
        """Change the record, in memory and on disk."""
        self.record = msgspec.structs.replace(self.record, **changes)
        await anyio.to_thread.run_sync(write_record, self.files.directory, self.record)


def sandbox_exists(sandbox_id: str) -> Conflict:
    """Return the error for an id that is taken."""
    return Conflict(f"there is a sandbox {sandbox_id!r} already", code="sandbox-exists")
