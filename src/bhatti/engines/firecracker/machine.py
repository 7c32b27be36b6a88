"""One machine of Firecracker: what is different from one of QEMU's, which is how its process is led.

Theory of operation. Memory is in no file while a machine runs. The first snapshot writes all of it; a machine that was
loaded from a file of its own has that mapped privately, its changes are counted, and the next snapshot writes these
into the same file (`MachineRecord.tracked`). Any snapshot begins the count anew, so after one that was not the end of
the machine (a copy for a fork, a stop that failed) the next is a full one again. A file that is written in this way is
of no use until it is complete, and nobody would use it: what it held before was spent when the machine ran on from it.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.base import CauseOfDeath, Machine
from bhatti.engines.firecracker import api_types as types
from bhatti.engines.firecracker import cgroups, command, jail
from bhatti.engines.firecracker.api import FirecrackerApi
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu import console, death
from bhatti.engines.qemu.command import Hardware, TapCard
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.machine import QemuMachine
from bhatti.engines.qemu.mold import copy_machine
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.plan import frame_of
from bhatti.engines.qemu.process import Exit, VmProcess
from bhatti.engines.qemu.record import MachineRecord, Phase
from bhatti.engines.qemu.vm import MONITOR_TIMEOUT_S, STATUS_TIMEOUT_S
from bhatti.errors import BhattiError, EngineFailure
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import VsockTransport
from bhatti.model.sandbox import Temperature

log = logging.getLogger(__name__)

SOCKET = "api.sock"
LOG = "firecracker.log"
METRICS = "firecracker.metrics"
PROBE_SOCKET = "probe.sock"

OFF_POLL_S = 0.05

LONGEST_PATH = 108
"""With its terminating NUL: sun_path of unix(7)."""


class FirecrackerMachine(QemuMachine):
    """A machine of the Firecracker engine."""

    _card: TapCard | None = None
    _begun = True

    @property
    def _api(self) -> FirecrackerApi:
        return FirecrackerApi(self._place / SOCKET)

    @property
    def _place(self) -> Path:
        """Where the process that runs has its socket; it may be one that an engine with other settings started."""
        jailed = self.files.directory / jail.RUN
        return jailed if jailed.is_dir() else self.files.directory

    @property
    def _jailed(self) -> bool:
        return self._place.name == jail.RUN

    @property
    def _user(self) -> int:
        return jail.user_of(command.instance_name(self.files))

    @property
    def _group(self) -> str:
        return command.group_name(self._settings.state_dir)

    @property
    def _settings(self) -> FirecrackerSettings:
        settings = self._host.settings
        assert isinstance(settings, FirecrackerSettings)
        return settings

    @property
    def _log(self) -> Path:
        return self.files.directory / LOG

    async def _launch(self, hardware: Hardware, address: IPv4Address) -> None:
        """Start Firecracker and tell it what machine to be, or have it wait for a snapshot."""
        self._ending = False
        self._paused = False
        self._begun = hardware.incoming
        assert isinstance(hardware.card, TapCard)
        self._card = hardware.card
        await anyio.to_thread.run_sync(_link_drives, self.files.directory, hardware)
        self._process = await self._spawn(hardware, SOCKET, self.files.console, self._log)
        identity = self._process.identity
        await self._note(
            pid=identity.pid,
            start_time=identity.start_time,
            boot_id=self._host.boot_id,
            address=str(address),
            # A fork's memory is in no file of its own, but unlike with QEMU its first snapshot makes one.
            frame=msgspec.structs.replace(frame_of(hardware), private=False),
            tracked=False,
        )
        await anyio.to_thread.run_sync(self._bound_files, hardware)
        await self._while_alive(lambda: self._api.wait_ready(timeout_s=MONITOR_TIMEOUT_S))
        if not hardware.incoming:
            await self._while_alive(lambda: self._describe_machine(hardware))

    async def _describe_machine(self, hardware: Hardware) -> None:
        api = self._api
        assert isinstance(hardware.card, TapCard)
        await api.boot_source(command.boot_source(hardware, self._settings))
        await api.machine_config(command.machine_configuration(hardware))
        for drive in command.drives(hardware, self._settings.limits):
            await api.drive(drive)
        await api.network_interface(command.network_interface(hardware.card, self._settings.limits))
        await api.entropy(types.EntropyDevice())
        if self._settings.balloon:
            await api.balloon(command.balloon())
        if self._settings.vsock:
            await api.vsock(command.vsock())

    async def _spawn(self, hardware: Hardware, socket: str, output: Path, log: Path) -> VmProcess:
        await anyio.Path(self._place / socket).unlink(missing_ok=True)
        # It opens its log and does not make it.
        await anyio.Path(log).touch(mode=0o600)
        metrics = self.files.directory / METRICS if self._settings.metrics and socket == SOCKET else None
        if metrics is not None:
            # Begun anew with each process, as it grows by some MB a day.
            await anyio.Path(metrics).unlink(missing_ok=True)
            await anyio.Path(metrics).touch(mode=0o600)
        jailed = bool(self._settings.jailer)
        line = command.command_line(
            self._host.binary,
            self.files,
            socket=f"{jail.RUN}/{socket}" if jailed else socket,
            log=log,
            level=self._settings.log_level,
            metrics=metrics,
        )
        await anyio.to_thread.run_sync(jail.abolish, self.files.directory)
        # Whatever is set now: it is a snapshot that says whether its machine has a socket there.
        await anyio.Path(self.files.directory / jail.VSOCK).mkdir(mode=0o700)
        enter = None
        if jailed:
            own = (log, metrics) if metrics is not None else (log,)
            line, enter = await anyio.to_thread.run_sync(self._jail_for, hardware, line[command.WORKING :], own)
        return await VmProcess.spawn(line, log=output, enter=enter)

    def _jail_for(
        self, hardware: Hardware, firecracker: list[str], own: tuple[Path, ...]
    ) -> tuple[list[str], Callable[[], None]]:
        """Make ready what the machine may reach; return the command for its jail and how to go in. Blocks."""
        drives = [(drive.path, drive.read_only) for drive in hardware.drives if drive.path is not None]
        boot = (hardware.kernel, hardware.initramfs)
        jail.furnish(self.files.directory, self._user, [*drives, *((path, False) for path in own)], boot)
        directory, binary, name = self.files.directory, firecracker[0], command.instance_name(self.files)
        limits = cgroups.arguments(
            self._settings.jail_limits, parent=self._group, cpus=hardware.cpus, memory_mib=hardware.memory_mib
        )
        line = jail.command_line(self._settings.jailer, firecracker, name=name, directory=directory, limits=limits)
        files = jail.reached(directory, binary, [*drives, *((path, True) for path in boot)])
        return line, partial(jail.enter, directory, jail.root_of(directory, binary, name), files)

    def _open_link(self, quarantine: Plug | None = None) -> GuestLink:
        agent = self.files.directory / command.AGENT
        # Of a name that is too long for an address, only Firecracker itself can know a shorter one.
        if agent.is_socket() and len(os.fsencode(agent)) < LONGEST_PATH:
            return GuestLink(VsockTransport(agent), token=self.spec.token)
        return super()._open_link(quarantine)

    async def _run(self) -> None:
        if self._begun:
            await self._api.resume()
        else:
            await self._api.start()
            self._begun = True
        self._paused = False

    async def _halt(self) -> None:
        await self._api.pause()

    async def _save(self, files: MachineFiles) -> None:
        kind = "Diff" if self.record.tracked else "Full"
        await self._save_as(kind, command.STATE, command.MEMORY)

    async def _copy(self, files: MachineFiles) -> MachineRecord:
        await self._save_as_copy(files)
        return await anyio.to_thread.run_sync(lambda: copy_machine(self.files, self.record, files, with_memory=False))

    async def _save_as_copy(self, files: MachineFiles) -> None:
        if self._jailed:
            try:
                await self._save_as("Full", f"{jail.COPIED}.{command.STATE}", f"{jail.COPIED}.{command.MEMORY}")
                await anyio.to_thread.run_sync(self._hand_out, files)
            finally:
                # Of a copy that did not fit on the disk, what did.
                await anyio.to_thread.run_sync(self._sweep_passing)
        else:
            await self._save_as("Full", str(files.state), str(files.memory))

    async def _save_as(self, kind: str, state: str, memory: str) -> None:
        await self._note(tracked=False)
        for name in (state, memory):
            # What is there keeps its mode; Firecracker's own would let everybody read the guest's memory.
            path = self.files.directory / name
            await anyio.Path(path).touch(mode=0o600)
            if self._jailed:
                await anyio.to_thread.run_sync(jail.give, path, self._user)
        order = types.SnapshotCreate(
            snapshot_type="Diff" if kind == "Diff" else "Full", snapshot_path=state, mem_file_path=memory
        )
        await self._api.save(order)

    async def _load(self, files: MachineFiles, *, with_memory: bool) -> None:
        assert self._card is not None
        own = files.directory == self.files.directory
        state, memory = (command.STATE, command.MEMORY) if own else (str(files.state), str(files.memory))
        if self._jailed:
            state, memory = await anyio.to_thread.run_sync(self._bring_in, files)
        await self._api.load(command.snapshot_load(self._card, state=state, memory=memory))
        if self._jailed and not own:
            # What is mapped needs no name, and must not keep a mold on the disk that nobody else needs.
            for name in (state, memory):
                await anyio.Path(self.files.directory / name).unlink()
        await self._note(tracked=own)

    def _bring_in(self, files: MachineFiles) -> tuple[str, str]:
        """Return the names by which a snapshot is found in the jail. Blocks."""
        names = (command.STATE, command.MEMORY)
        if files.directory != self.files.directory:
            names = (f"{jail.BROUGHT}.{command.STATE}", f"{jail.BROUGHT}.{command.MEMORY}")
            for name, path in zip(names, (files.state, files.memory), strict=True):
                here = self.files.directory / name
                here.unlink(missing_ok=True)
                here.hardlink_to(path)
                # Of a mold that many are made from, perhaps at once: it can be read by all of them, and stays root's.
                path.chmod(0o644)
        else:
            for name in names:
                jail.give(self.files.directory / name, self._user)
        return names

    def _hand_out(self, files: MachineFiles) -> None:
        """Move a snapshot from the jail to where it was wanted. Blocks."""
        for name, target in ((command.STATE, files.state), (command.MEMORY, files.memory)):
            path = self.files.directory / f"{jail.COPIED}.{name}"
            os.chown(path, 0, 0)
            path.replace(target)

    def _sweep_passing(self) -> None:
        """Remove snapshots that are on their way into the jail or out of it. Blocks."""
        for way in (jail.COPIED, jail.BROUGHT):
            for path in self.files.directory.glob(f"{way}.*"):
                path.unlink()

    def sweep_copies(self) -> None:
        """See `CheckpointedVm.sweep_copies`."""
        super().sweep_copies()
        self._sweep_passing()

    async def _undo_stop(self) -> None:
        # Before the guest runs on, which may need the room to write.
        await anyio.to_thread.run_sync(self._give_up_snapshot)
        await super()._undo_stop()

    def _give_up_snapshot(self) -> None:
        """Free the disk of a snapshot that did not become one, unless the memory is mapped from it. Blocks."""
        with suppress(FileNotFoundError):
            inode = str(self.files.memory.stat().st_ino)
            maps = Path(f"/proc/{self.record.pid}/maps").read_text().splitlines()
            if inode not in {line.split()[4] for line in maps}:
                for path in (self.files.memory, self.files.state):
                    path.unlink(missing_ok=True)

    async def _settled(self) -> None:
        """An order that nobody waits for any more is finished before the next is taken."""
        await self._api.info(timeout_s=MONITOR_TIMEOUT_S)

    async def _recognize(self) -> None:
        found = await self._api.wait_ready(timeout_s=MONITOR_TIMEOUT_S)
        if found.id != command.instance_name(self.files):
            raise EngineFailure(f"the firecracker in {self.files.directory} is {found.id}", code="not-ours")

    async def _temperature(self, why: str) -> tuple[Temperature, str]:
        try:
            state = (await self._api.info(timeout_s=STATUS_TIMEOUT_S)).state
        except BhattiError as error:
            return Temperature.HOT, f"its API does not answer: {error.message}"
        self._paused = state == "Paused"
        return (Temperature.WARM if self._paused else Temperature.HOT), why

    async def _probe(self, hardware: Hardware, *, with_memory: bool) -> str | None:
        assert isinstance(hardware.card, TapCard)
        output, log = (self.files.directory / f"probe.{kind}" for kind in ("console", "log"))
        place = self.files.directory / jail.RUN if self._settings.jailer else self.files.directory
        api = FirecrackerApi(place / PROBE_SOCKET)
        try:
            process = await self._spawn(hardware, PROBE_SOCKET, output, log)
            try:
                await api.wait_ready(timeout_s=MONITOR_TIMEOUT_S)
                if self._settings.jailer:
                    await anyio.to_thread.run_sync(self._bring_in, self.files)
                await api.load(command.snapshot_load(hardware.card, state=command.STATE, memory=command.MEMORY))
                return None
            except BhattiError as error:
                return f"it cannot be loaded: {error.message}"
            finally:
                await process.end()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._release_groups)
                for path in (api.path, output, log):
                    await anyio.Path(path).unlink(missing_ok=True)

    async def look(self) -> Machine:
        """See `QemuMachine.look`.

        Firecracker has no way to be switched off, tells nobody, and would keep a halted machine for ever. Its guest's
        last words tell, so whoever looks at a machine ends one that is off: the daemon does every few seconds.
        """
        if self.record.phase is Phase.RUNNING and self._alive and await anyio.to_thread.run_sync(self._says_off):
            assert self._process is not None
            await self._process.end()
        found = await super().look()
        if found.pid is None or not self._settings.balloon:
            return found
        return msgspec.structs.replace(found, details=await self._guest_memory())

    async def _guest_memory(self) -> dict[str, str]:
        try:
            return command.guest_memory(await self._api.balloon_statistics(timeout_s=STATUS_TIMEOUT_S))
        except BhattiError:
            # Its snapshot was taken without a balloon, or it is silent, which `why` says.
            return {}

    async def _end_process(self) -> None:
        await super()._end_process()
        await anyio.to_thread.run_sync(self._release_groups)

    def _examine_body(self, ended: Exit) -> None:
        super()._examine_body(ended)
        self._release_groups()

    def _release_groups(self) -> None:
        """Remove the control groups of a process that has ended. Blocks."""
        if not cgroups.release(self._group, command.instance_name(self.files)):
            log.warning("sandbox %s: its control group is still in use, and is left to the next sweep", self.spec.id)

    async def _switched_off(self) -> None:
        assert self._process is not None
        while self._process.exit is None and not await anyio.to_thread.run_sync(self._says_off):
            with anyio.move_on_after(OFF_POLL_S):
                await self._process.wait()

    def _says_off(self) -> bool:
        """Return whether the guest has switched itself off. Blocks."""
        return death.switched_off(console.tail(self.files.console, death.TAIL_BYTES))

    def _cause_of_death(self, ended: Exit) -> CauseOfDeath:
        return death.cause_of_death(self.record.pid, ended, self.files.console, self._log, program="firecracker")

    def _mark(self) -> str:
        return command.instance_name(self.files)


def _link_drives(directory: Path, hardware: Hardware) -> None:
    """Give the drives the names by which Firecracker opens them."""
    for name, path in command.links(hardware).items():
        link = directory / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
