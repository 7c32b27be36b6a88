"""One machine: created, adopted, looked at, ended. Every step of its end has its reason beside it."""

import logging
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

import anyio

from bhatti.engines.base import CauseOfDeath, Machine, ProgressCallback
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu import console
from bhatti.engines.qemu.checkpoints import CheckpointedVm
from bhatti.engines.qemu.files import find_volumes, make_config, make_disk, remove_files
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.plan import plan_hardware
from bhatti.engines.qemu.process import Exit, VmProcess
from bhatti.engines.qemu.record import MachineRecord, Phase
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError
from bhatti.images.store import BootFiles
from bhatti.model.sandbox import SandboxSpec, Status, Temperature

log = logging.getLogger(__name__)

ASLEEP = (Phase.STOPPED, Phase.STARTING)
"""The phases in which the machine has no process that counts."""

HALFWAY = (Phase.STOPPING, Phase.RESTORED)
"""The phases in which a process that is gone leaves a stopped machine, with its memory or without."""

STATUS_OF = {
    Phase.CREATING: Status.CREATING,
    Phase.RUNNING: Status.RUNNING,
    Phase.CASTING: Status.RUNNING,
    Phase.RESTORED: Status.RUNNING,
    Phase.STOPPING: Status.RUNNING,
    Phase.STOPPED: Status.STOPPED,
    Phase.STARTING: Status.STOPPED,
}
"""What a phase is to the world; the others are `failed`."""


class QemuMachine(CheckpointedVm):
    """One machine of the engine; made by `new` or found by `adopt`, ended by `remove`, let go by `aclose`."""

    @classmethod
    def new(cls, host: QemuHost, spec: SandboxSpec) -> Self:
        """Return a machine of which nothing exists yet."""
        record = MachineRecord(
            phase=Phase.CREATING,
            spec=spec,
            boot_id=host.boot_id,
            created_at=time.time(),
            network=host.networks.new,
            accelerator=host.verdict.accelerator,
        )
        return cls(host, record, exists=False)

    async def boot(self, progress: ProgressCallback, *, why: str, alone: bool = False) -> None:
        """Make everything and wait for the agent. On failure or cancellation the caller must `remove`.

        `why` says why it is not a fork. A machine that is to stay `alone` is never admitted to the network,
        and has slots for the volumes of its forks.
        """
        stages = Stages(progress, "images")
        with disk_errors_explained(self.files.directory):
            await anyio.to_thread.run_sync(self._make_directory)
            boot, volumes = await anyio.to_thread.run_sync(self._find_images)
            stages.begin("network")
            attach = self._network.quarantine if alone else self._network.attach
            plug = await attach(self.body)
            stages.begin("config")
            await anyio.to_thread.run_sync(make_config, self.files, self.spec, plug.dns)
            stages.begin("layer")
            await anyio.to_thread.run_sync(make_disk, self.files, self.spec.disk_mib)
            stages.begin(self._host.engine)
            hardware = plan_hardware(self._host, self.spec, self.files, boot, volumes, plug)
            await self._launch(hardware.with_slots() if alone else hardware, plug.address)
            await self._run()
            stages.begin("agent")
            self._link = self._open_link(plug if alone else None)
            await self._while_alive(self._wait_for_agent)
            if alone:
                await self.rehearse(plug)
            stages.end()
            text = await anyio.to_thread.run_sync(console.tail, self.files.console, console.MAX_CONSOLE_BYTES)
            timings = stages.timings_ms | {f"guest.{k}": v for k, v in console.boot_timings(text).items()}
            await self._has_come_up(how="booted", why=why, timings_ms=timings)

    async def adopt(self) -> None:
        """Take hold of what an earlier engine left; afterwards the machine runs, is stopped, or has failed."""
        if self.record.phase is Phase.FAILED:
            return
        identity = self.record.identity(self._host.boot_id)
        self._process = None if identity is None else await VmProcess.adopt(identity)
        if self.record.phase in ASLEEP or (self.record.phase in HALFWAY and self._process is None):
            await self._adopt_asleep()
            return
        if identity is None:
            await self._fail(CauseOfDeath(kind="host-crash", detail="the host was restarted while it ran"))
            return
        if self._process is None:
            await anyio.to_thread.run_sync(self._examine_body, Exit())
            return
        self._process.on_death(self._on_death)
        try:
            await self._take_over()
        except BhattiError as error:
            # Right pid and start time, so it is ours, but nobody can lead it any more.
            self._ending = True
            await self._process.end()
            await self._fail(CauseOfDeath(kind="killed", detail=f"it could not be adopted: {error.message}"))

    async def _take_over(self) -> None:
        """Connect to the adopted process, and to its agent."""
        await self._recognize()
        await self._plug_in_again()
        self._link = self._open_link()
        if self.record.phase in (Phase.STOPPING, Phase.CASTING):
            await self._undo_stop()
        elif self.record.phase is Phase.RESTORED:
            await self._finish_restore()
        await self._temperature("")

    async def _adopt_asleep(self) -> None:
        """Take over a stopped machine. A start that was interrupted before it counted is undone."""
        if self.record.phase is Phase.STARTING:
            log.warning("sandbox %s was being started when its engine died: it is stopped again", self.spec.id)
            await self._let_go()
        await self._plug_in_again()
        # Without the manifest that a stop ends with, its memory is lost, and the next start will say so.
        await self._note(phase=Phase.STOPPED, pid=0)

    async def _plug_in_again(self) -> None:
        try:
            await self._network.attach(self.body, address=IPv4Address(self.record.address))
        except BhattiError as error:
            # It goes on with the tap it has, if any; whoever changed the network below it must know.
            log.error("sandbox %s: its network could not be set up again: %s", self.spec.id, error.message)

    async def look(self) -> Machine:
        """Return the machine as it is now."""
        await self._post_mortem_done()
        record, temperature, why = self.record, Temperature.COLD, self.record.why
        status = STATUS_OF.get(record.phase, Status.FAILED)
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

    async def remove(self) -> None:
        """End the machine and remove all it had. Shielded, idempotent, repeatable after a failure."""
        if not self._exists:
            return
        with anyio.CancelScope(shield=True):
            self._ending = True
            # One that has died just now may still be examined, which writes into its directory.
            await self._post_mortem_done()
            # Before anything is gone: killed from here on, the next engine finishes the removal.
            with suppress(OSError):  # a full disk must not keep anybody from freeing it
                await self._note(phase=Phase.DESTROYING)
            await self._flush_volumes()
            # Then the process: it holds the tap, and would go on writing to files that are being removed.
            await self._let_go()
            # The tap and the address: free for the next machine only now that nobody answers there any more.
            await self._network.detach(self.body)
            # The files last: as long as the record is there, whatever step failed will be tried again.
            await anyio.to_thread.run_sync(remove_files, self.files.directory)
            self._exists = False

    def _find_images(self) -> tuple[BootFiles, list[Path]]:
        boot = self._host.images.boot_files(self.spec.image)
        return boot, find_volumes(self._host.settings, self.spec.volumes)

    async def _flush_volumes(self) -> None:
        """Let the guest write to its volumes what it has not yet: they outlive it."""
        if any(not volume.read_only for volume in self.spec.volumes) and self._link is not None and self._alive:
            await self._write_back()
