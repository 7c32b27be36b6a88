"""A machine that pauses, sleeps with its memory on disk, and wakes up where it was.

Theory of operation. Stopping writes, in this order: what the guest has not yet written to its disk (it still runs), the
devices' state, the memory file's last pages, the manifest. Starting checks the manifest, loads, spends the snapshot
durably, and only then lets the processors run. Each step has a phase in the record before it begins, so that an engine
killed anywhere leaves a machine that runs, is stopped, or can be brought to one of both (see `record.Phase`).
"""

import logging
import time
from ipaddress import IPv4Address

import anyio

from bhatti.durable import sync_file
from bhatti.engines.base import CauseOfDeath, ProgressCallback, SnapshotReport
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu import snapshot
from bhatti.engines.qemu.command import Hardware
from bhatti.engines.qemu.files import find_volumes
from bhatti.engines.qemu.memory_sum import BackgroundSum, content_damage
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.plan import plan_hardware, same_hardware
from bhatti.engines.qemu.probe import probe_state
from bhatti.engines.qemu.record import Phase
from bhatti.engines.qemu.vm import LAST_GASP_S, Vm
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError, Conflict, EngineFailure
from bhatti.taskgroups import together

log = logging.getLogger(__name__)

WRITE_BACK_TIMEOUT_S = 10.0
"""What a guest may take to write its disks before it is stopped; a hanging one must not keep anybody waiting."""

SHUTDOWN_TIMEOUT_S = 15.0
"""The agent gives programs 3 s to end, twice, before it switches the machine off."""


class SleepingVm(Vm):
    """A machine and its snapshot: `pause` and `resume`, `stop` and `start`."""

    _sum: BackgroundSum | None = None

    async def pause(self) -> None:
        """Halt the processors."""
        self.link()  # raises unless it is hot
        await self._halt()
        self._paused = True

    async def resume(self) -> None:
        """Let paused processors run, and tell the guest what time it is, with which its network card wakes it."""
        async with together() as tasks:
            tasks.start_soon(self._run)
            await self._while_alive(self._tell_time)

    async def stop(self, *, memory: bool) -> None:
        """End the process; with `memory`, so that `start` goes on where it was."""
        with anyio.CancelScope(shield=True), disk_errors_explained(self.files.directory):
            before = self.record
            try:
                await self._note(phase=Phase.STOPPING)
            except OSError:
                self.record = before  # nothing has been begun
                raise
            if memory:
                await self._suspend()
            else:
                await self._shut_down()

    async def start(self, progress: ProgressCallback, *, require_memory: bool) -> None:
        """Bring a stopped or failed machine up: from its memory, else from its disk, saying why."""
        stages = Stages(progress, "snapshot")
        await self._give_up_sum()
        manifest, obstacle = await anyio.to_thread.run_sync(self._find_snapshot)
        if self._process is not None:
            # It died: what led to it leads nowhere now.
            await self._let_go()
        if manifest is not None:
            try:
                await self._restore(manifest, stages)
            except EngineFailure as error:
                obstacle = f"its memory snapshot could not be loaded: {error.message}"
            else:
                return
        if require_memory:
            raise Conflict(
                f"sandbox {self.spec.name!r} cannot go on where it was: {obstacle}",
                hint="start it without insisting on its memory: its disk is as it was",
                code="memory-lost",
            )
        await self._boot_from_disk(obstacle, stages)

    def _find_snapshot(self) -> tuple[snapshot.Manifest | None, str]:
        """Return the snapshot if it can be loaded, else why not. Blocks."""
        if self.record.phase is Phase.FAILED:
            cause = self.record.cause
            return None, f"it had died ({cause.detail if cause else 'nobody knows why'})"
        if self.record.no_memory:
            return None, self.record.no_memory
        manifest = snapshot.read_manifest(self.files.directory)
        if isinstance(manifest, str):
            return None, manifest
        obstacle = snapshot.obstacle(manifest, snapshot.maker_of(self._host), card=self.record.network)
        return (manifest, "") if obstacle is None else (None, obstacle)

    async def verify(self, *, content: bool, probe: bool) -> SnapshotReport:
        """Say whether the snapshot could be loaded; with `content`, read all of its memory; with `probe`, load it into
        a process that never runs."""
        manifest, obstacle = await anyio.to_thread.run_sync(self._find_snapshot)
        if manifest is None:
            return SnapshotReport(usable=False, detail=obstacle)
        size = await anyio.to_thread.run_sync(snapshot.stored_bytes, manifest)
        if content and manifest.memory is not None:
            if self._sum is not None:
                await self._sum.made()
            damage = await anyio.to_thread.run_sync(content_damage, manifest.memory)
            if damage is not None:
                detail = f"the memory file of its memory snapshot {damage}"
                return SnapshotReport(usable=False, detail=detail, size_bytes=size)
        if probe:
            assert self.record.frame is not None
            plug = await self._network.attach(self.body, address=IPv4Address(self.record.address))
            hardware = same_hardware(self._host, self.spec, self.files, self.record.frame, plug)
            failed = await self._probe(hardware, with_memory=manifest.memory is None)
            if failed is not None:
                return SnapshotReport(usable=False, detail=failed, probed=True, size_bytes=size)
        return SnapshotReport(usable=True, detail=_age(manifest), probed=probe, size_bytes=size)

    async def _probe(self, hardware: Hardware, *, with_memory: bool) -> str | None:
        """Load the snapshot into a process that never runs; return what went wrong, or None."""
        return await probe_state(hardware, self.files, with_memory=with_memory)

    # --- stopping

    async def _suspend(self) -> None:
        if self.record.frame is None:
            raise EngineFailure(f"sandbox {self.spec.name!r} was made by an older bhatti", code="no-frame")
        if self._paused:
            await self._run()
        await self._write_back()
        try:
            await self._halt()
            await anyio.to_thread.run_sync(self._drop_old_snapshot)
            await self._save(self.files)
            # While the machine can still go on: without its manifest, all of its memory would be lost.
            await anyio.to_thread.run_sync(snapshot.keep_room, self.files.directory)
            if not self._alive:
                # What was saved is gone already: its post-mortem frees the memory file.
                raise EngineFailure("its process ended just as it had been saved")
            # From here on its end is no death that anybody looks into.
            self._ending = True
        except (BhattiError, OSError) as error:
            await self._survive(error)
            if self.record.phase is Phase.FAILED:
                raise EngineFailure(
                    f"sandbox {self.spec.name!r} died while it was stopped: {error}",
                    hint="start it: its disk is as the guest last wrote it",
                    code="died-stopping",
                ) from error
            raise
        await self._let_go()
        try:
            manifest = await anyio.to_thread.run_sync(self._seal_snapshot)
        except OSError as error:
            lost = f"its memory could not be kept: {error.strerror}"
            await self._note_if_possible(phase=Phase.STOPPED, pid=0, no_memory=lost)
            raise
        # The manifest is what counts.
        await self._note_if_possible(phase=Phase.STOPPED, pid=0, no_memory="")
        if manifest.memory is not None:
            self._sum = BackgroundSum(manifest.memory)

    async def _survive(self, error: Exception) -> None:
        """After a stop that failed, let the machine go on, or find out what it died of."""
        assert self._process is not None
        with anyio.move_on_after(LAST_GASP_S):
            if self._monitor is None or self._monitor.closed:
                await self._process.wait()
        if self._process.exit is None:
            await self._undo_stop()
        await self._post_mortem_done()
        log.warning("sandbox %s could not be stopped: %s", self.spec.id, error)

    async def _undo_stop(self) -> None:
        """Let a machine run on whose stop was not finished; its guest has lost some time."""
        await anyio.to_thread.run_sync(snapshot.give_room_back, self.files.directory)
        await self._settled()
        await self._run()
        await self._tell_time_if_possible()
        await self._note(phase=Phase.RUNNING)

    def _drop_old_snapshot(self) -> None:
        snapshot.discard(self.files.directory)

    async def _let_go(self) -> None:
        await self._give_up_sum()
        await super()._let_go()

    async def aclose(self) -> None:
        """See `Vm.aclose`."""
        await self._give_up_sum()
        await super().aclose()

    async def _give_up_sum(self) -> None:
        """Leave the memory file alone, which is about to change or to go."""
        if self._sum is not None:
            await self._sum.give_up()
            self._sum = None

    def _seal_snapshot(self) -> snapshot.Manifest:
        """Make the snapshot exist. Blocks until it is on the disk."""
        frame = self.record.frame
        assert frame is not None
        sync_file(self.files.state)
        if not frame.private:
            sync_file(self.files.memory)
        manifest = snapshot.make_manifest(
            self._host,
            self.record,
            state=self.files.state,
            memory=None if frame.private else self.files.memory,
        )
        snapshot.write_manifest(self.files.directory, manifest)
        return manifest

    async def _shut_down(self) -> None:
        """Switch the guest off as its own `poweroff` would, or end it after its disks are written."""
        if self._paused:
            await self._run()
        await self._write_back()
        self._ending = True
        with anyio.move_on_after(SHUTDOWN_TIMEOUT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ask_to_switch_off)
                await self._switched_off()
                # A guest that is quick takes its answer with it.
                tasks.cancel_scope.cancel()
        await self._let_go()
        await anyio.to_thread.run_sync(snapshot.discard, self.files.directory, self.files.memory, self.files.state)
        await self._note(phase=Phase.STOPPED, pid=0, no_memory="it was stopped without its memory")

    async def _ask_to_switch_off(self) -> None:
        try:
            if self._link is not None:
                await self._link.exec(["/bin/sh", "-c", "kill -TERM 1"], user="root", timeout_s=SHUTDOWN_TIMEOUT_S)
        except BhattiError as error:
            # The connection breaks when the guest is quick; a guest that cannot do it is ended anyway.
            log.debug("sandbox %s: shutting down: %s", self.spec.id, error.message)

    async def _switched_off(self) -> None:
        """Wait until the guest has switched itself off."""
        assert self._process is not None
        await self._process.wait()

    async def _write_back(self) -> None:
        """Have the guest write to its disks what it has not yet: whatever becomes of its memory, the disk is whole."""
        if self._link is None:
            return
        try:
            with anyio.fail_after(WRITE_BACK_TIMEOUT_S):
                await self._link.sync()
        except (BhattiError, TimeoutError) as error:
            log.warning("sandbox %s: its disks may lack what it wrote last: %s", self.spec.id, error)

    # --- starting

    async def _restore(self, manifest: snapshot.Manifest, stages: Stages) -> None:
        """Go on from the snapshot. Raises `EngineFailure` when that cannot be; the machine is then stopped again."""
        assert self.record.frame is not None
        with anyio.CancelScope(shield=True), disk_errors_explained(self.files.directory):
            await self._note(phase=Phase.STARTING)
            try:
                stages.begin("network")
                plug = await self._network.attach(self.body, address=IPv4Address(self.record.address))
                stages.begin(self._host.engine)
                if manifest.memory is None:
                    await anyio.to_thread.run_sync(lambda: self.files.memory.unlink(missing_ok=True))
                hardware = same_hardware(self._host, self.spec, self.files, self.record.frame, plug)
                await self._launch(hardware, plug.address)
                stages.begin("load")
                await self._while_alive(lambda: self._load(self.files, with_memory=manifest.memory is None))
                await self._note(phase=Phase.RESTORED, how="restored", why=_age(manifest))
                stages.begin("agent")
                await self._finish_restore()
            except (BhattiError, OSError) as error:
                await self._let_go()
                await self._note_if_possible(phase=Phase.STOPPED, pid=0)
                if isinstance(error, (EngineFailure, OSError)):
                    raise
                raise EngineFailure(error.message, hint=error.hint, code="load-failed") from error
            stages.end()
            # Its memory is spent: whatever the disk takes, it runs.
            why = _age(manifest)
            await self._has_come_up(how="restored", why=why, timings_ms=stages.timings_ms, must_last=False)

    async def _finish_restore(self) -> None:
        """Spend the snapshot, let the guest run, and tell it that it slept. Each step can be repeated."""
        await anyio.to_thread.run_sync(snapshot.spend, self.files.directory)
        await self._run()
        if self._link is None:
            self._link = self._open_link()
        await self._while_alive(self._wait_for_agent)
        await self._while_alive(self._tell_resumed)
        await self._note_if_possible(phase=Phase.RUNNING)

    async def _tell_resumed(self) -> None:
        assert self._link is not None
        await self._link.resumed(generation=self.record.generation)

    async def _tell_time(self) -> None:
        assert self._link is not None
        await self._link.resumed(generation=self.record.generation, keep_connections=True)

    async def _tell_time_if_possible(self) -> None:
        try:
            await self._tell_time()
        except BhattiError as error:
            log.warning("sandbox %s: its clock may be late: %s", self.spec.id, error.message)

    async def _boot_from_disk(self, why: str, stages: Stages) -> None:
        """Boot from what is on the disk. The memory that did not fit is gone for good, durably, before that begins."""
        before = self.record
        log.warning("sandbox %s boots from its disk: %s", self.spec.id, why)
        try:
            with disk_errors_explained(self.files.directory):
                await self._note(phase=Phase.STARTING, no_memory=why)
                await anyio.to_thread.run_sync(
                    snapshot.discard, self.files.directory, self.files.memory, self.files.state
                )
                stages.begin("network")
                plug = await self._attach_somehow()
                stages.begin(self._host.engine)
                boot = await anyio.to_thread.run_sync(self._host.images.boot_files, self.spec.image)
                volumes = await anyio.to_thread.run_sync(find_volumes, self._host.settings, self.spec.volumes)
                await self._launch(plan_hardware(self._host, self.spec, self.files, boot, volumes, plug), plug.address)
                await self._run()
                stages.begin("agent")
                self._link = self._open_link()
                await self._while_alive(self._wait_for_agent)
                stages.end()
                await self._has_come_up(how="disk-boot", why=why, timings_ms=stages.timings_ms)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._let_go()
                if isinstance(error, BhattiError):
                    cause = CauseOfDeath(kind="boot-failed", detail=error.message)
                    await self._note(phase=Phase.FAILED, pid=0, cause=cause)
                else:
                    await self._note(phase=before.phase, pid=0, no_memory=why)
            raise

    async def _attach_somehow(self) -> Plug:
        """Return the connection with the address from before, or another one if somebody else has that now."""
        try:
            return await self._network.attach(self.body, address=IPv4Address(self.record.address))
        except Conflict as error:
            log.warning("sandbox %s gets another address: %s", self.spec.id, error.message)
            return await self._network.attach(self.body)


def _age(manifest: snapshot.Manifest) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.taken_at))
    return f"from its memory snapshot of {moment}"
