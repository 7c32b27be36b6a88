"""A machine's process, its monitor and its agent: started, watched, ended; and the record of all that.

Theory of operation. A machine is its directory, its process and its connection. The record in the directory is written
before each of them can come to be, so whatever we are killed in the middle of, the next engine knows what to look for.
Nobody tells us when a machine dies of itself: the pidfd does, and a post-mortem is made at once, while logs are fresh.
"""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TypeVar

import anyio
import msgspec

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.qemu import boot_errors, command, console, death, migration, network
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.plan import frame_of, largest_file_bytes, machine_name
from bhatti.engines.qemu.process import Exit, VmProcess, processes_with
from bhatti.engines.qemu.qmp import Monitor, listen
from bhatti.engines.qemu.record import MachineRecord, Phase, write_record
from bhatti.errors import BhattiError, Conflict, EngineFailure, GuestTimeout
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec, Temperature

log = logging.getLogger(__name__)

MONITOR_TIMEOUT_S = 20.0
"""From QEMU's start to its greeting: 50 ms, on a host with ten starting at once some seconds."""

LAST_GASP_S = 1.0
"""After a connection breaks, how long the process may take to turn out dead."""

STATUS_TIMEOUT_S = 2.0

STOPPED_STATES = ("paused", "prelaunch", "postmigrate", "finish-migrate")
"""What QEMU calls a machine whose processors wait for `cont` and nothing else (qapi/run-state.json)."""

T = TypeVar("T")


class Vm:
    """What a machine is while a process of QEMU runs it, and what is known of it while none does."""

    def __init__(self, host: QemuHost, record: MachineRecord, *, exists: bool) -> None:
        self.record = record
        self.files = MachineFiles(host.settings.sandboxes_dir / (record.body or record.spec.id))
        self._host = host
        self._process: VmProcess | None = None
        self._monitor: Monitor | None = None
        self._link: GuestLink | None = None
        self._post_mortem: asyncio.Future[None] | None = None
        self._exists = exists
        self._ending = False
        self._paused = False

    @property
    def spec(self) -> SandboxSpec:
        """What was asked for."""
        return self.record.spec

    @property
    def exists(self) -> bool:
        """Whether there is anything of it."""
        return self._exists

    @property
    def body(self) -> str:
        """The name that its directory, its process and its tap have."""
        return self.files.directory.name

    @property
    def _network(self) -> network.MachineNetwork:
        return self._host.networks.of(self.record.network, self.spec.owner)

    def link(self) -> GuestLink:
        """Return the connection pool to the agent. Raises `Conflict` (code `not-running`)."""
        runs = self.record.phase in (Phase.RUNNING, Phase.CASTING)
        if self._link is None or not self._alive or self._paused or not runs:
            state = "paused" if self._paused else self.record.phase
            raise Conflict(
                f"sandbox {self.spec.name!r} is not running ({state})",
                hint="see `bhatti inspect` for what became of it",
                code="not-running",
            )
        return self._link

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.exit is None

    async def aclose(self) -> None:
        """Let go of the machine, which goes on running. Idempotent."""
        await self._post_mortem_done()
        if self._link is not None:
            await self._link.aclose()
        if self._monitor is not None:
            await self._monitor.aclose()
        if self._process is not None:
            self._process.aclose()

    async def _launch(self, hardware: command.Hardware, address: IPv4Address) -> None:
        """Start QEMU, stopped, and connect to its monitor."""
        self._ending = False
        self._paused = False
        listener = await anyio.to_thread.run_sync(listen, self.files.monitor)
        with listener:
            self._process = await VmProcess.spawn(
                command.command_line(hardware),
                log=self.files.log,
                inherit={command.MONITOR_FILE: listener.fileno()},
            )
        identity = self._process.identity
        await self._note(
            pid=identity.pid,
            start_time=identity.start_time,
            boot_id=self._host.boot_id,
            address=str(address),
            frame=frame_of(hardware),
        )
        await anyio.to_thread.run_sync(self._bound_files, hardware)
        self._monitor = await self._while_alive(
            lambda: Monitor.connect(self.files.monitor, timeout_s=MONITOR_TIMEOUT_S)
        )
        if isinstance(hardware.card, command.UserCard):
            table = await self._monitor.execute("human-monitor-command", {"command-line": "info usernet"})
            await self._note(forwards=network.forwarded_ports(str(table)))

    async def _run(self) -> None:
        """Let the processors run, from whatever point they are at."""
        await self._tell("cont")
        self._paused = False

    async def _halt(self) -> None:
        """Halt the processors, wherever they are."""
        await self._tell("stop")

    async def _save(self, files: MachineFiles) -> None:
        """Write what a halted machine is into `files`: its state, and its memory if that is in no file."""
        assert self._monitor is not None
        assert self.record.frame is not None
        await migration.save_state(self._monitor, files.state, with_memory=self.record.frame.private)

    async def _load(self, files: MachineFiles, *, with_memory: bool) -> None:
        """Make a machine that waits the one that was saved in `files`; it is then halted."""
        assert self._monitor is not None
        await migration.load_state(self._monitor, files.state, with_memory=with_memory)

    async def _settled(self) -> None:
        """Wait until the process can be told to run, whatever it was doing for an engine that has died meanwhile."""
        await migration.finalized(self._tell)

    async def _recognize(self) -> None:
        """Connect to a process that an earlier engine started. Raises `EngineFailure` (code `not-ours`)."""
        self._monitor = await Monitor.connect(self.files.monitor, timeout_s=MONITOR_TIMEOUT_S)
        name = await self._monitor.execute("query-name")
        if name != {"name": machine_name(self.body)}:
            raise EngineFailure(f"the monitor in {self.files.directory} is that of {name}", code="not-ours")

    async def _tell(self, order: str) -> object:
        """Give QEMU an order without arguments, over a new connection if the old one has broken."""
        if self._monitor is None or self._monitor.closed:
            self._monitor = await Monitor.connect(self.files.monitor, timeout_s=STATUS_TIMEOUT_S)
        return await self._monitor.execute(order)

    async def _has_come_up(self, *, how: str, why: str, timings_ms: dict[str, float], must_last: bool = True) -> None:
        """Note that the machine runs and its agent answers; from now on its death is looked into."""
        note = self._note if must_last else self._note_if_possible
        await note(phase=Phase.RUNNING, how=how, why=why, timings_ms=timings_ms, cause=None)
        assert self._process is not None
        self._process.on_death(self._on_death)

    def _bound_files(self, hardware: command.Hardware) -> None:
        """Bound every file that QEMU writes: while we are away, nobody trims the console."""
        assert self._process is not None
        limit = largest_file_bytes(hardware)
        with suppress(ProcessLookupError):
            resource.prlimit(self._process.identity.pid, resource.RLIMIT_FSIZE, (limit, limit))

    async def _wait_for_agent(self) -> None:
        assert self._link is not None
        try:
            hello = await self._link.wait_ready(timeout_s=self._host.settings.boot_timeout_s)
            await self._note_if_possible(agent=hello.agent)
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
        cause = await anyio.to_thread.run_sync(self._cause_of_death, ended)
        return boot_errors.died(self.spec, cause)

    def _cause_of_death(self, ended: Exit) -> CauseOfDeath:
        """Return why the process ended that nobody told to. Blocks."""
        return death.cause_of_death(self.record.pid, ended, self.files.console, self.files.log)

    def _open_link(self, quarantine: network.Plug | None = None) -> GuestLink:
        address, forwards = IPv4Address(self.record.address), self.record.forwards
        if quarantine is None:
            transport = self._network.transport(address, forwards)
        else:
            transport = self._network.quarantine_transport(quarantine, address, forwards)
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
        self._paused = name in STOPPED_STATES
        if name == "io-error":
            return Temperature.WARM, "qemu paused it: the host's disk is full; free space, then start it"
        return (Temperature.HOT if name == "running" else Temperature.WARM), why

    async def _let_go(self) -> None:
        """End the process on purpose, connections first; what it held is free afterwards. Idempotent."""
        self._ending = True
        # Connections first: requests under way fail with our words rather than with a reset.
        if self._link is not None:
            await self._link.aclose()
            self._link = None
        await self._end_process()
        if self._monitor is not None:
            await self._monitor.aclose()
            self._monitor = None
        self._process = None
        self._paused = False

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            # We may have been killed between the start of the process and its record: look for it by what it holds.
            for identity in await anyio.to_thread.run_sync(processes_with, self._mark(), self.files.directory):
                found = await VmProcess.adopt(identity)
                if found is not None:
                    await found.end()
            return
        monitor = self._monitor
        step = await process.end(monitor.quit if monitor is not None else None)
        log.debug("sandbox %s: process %d ended (%s)", self.spec.id, process.identity.pid, step)

    def _mark(self) -> str:
        """Return how an argument begins that only this machine's process has: a copy of its state directory, or another
        daemon's machine of the same id, is somebody else."""
        return command.console_at(self.files.console)

    def _on_death(self, ended: Exit) -> None:
        """Run in the event loop when the process has ended, whoever ended it."""
        if self._ending:
            return
        loop = asyncio.get_running_loop()
        self._post_mortem = loop.run_in_executor(None, self._examine_body, ended)
        self._post_mortem.add_done_callback(lambda _: self._host.deaths.died(self.spec.id))

    async def _post_mortem_done(self) -> None:
        """Wait until the cause of a death is known, if there was one."""
        if self._post_mortem is not None:
            await asyncio.shield(self._post_mortem)

    def _examine_body(self, ended: Exit) -> None:
        """Find the cause, write it down, free the memory file, which nobody can use any more. Blocks."""
        cause = self._cause_of_death(ended)
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

    async def _note_if_possible(self, **changes: object) -> None:
        """Do as `_note` does, on a full disk in memory alone: where the next engine comes to the same end by itself."""
        try:
            await self._note(**changes)
        except OSError as error:
            log.warning("sandbox %s: what became of it could not be written down: %s", self.spec.id, error)
