"""A machine that is not booted but woken up from another one's memory, and told who it is before anybody meets it.

Theory of operation. The new machine maps the memory of a mold privately, has a copy of its disk, and wakes up believing
to be the other: same name, same address, same token, same random numbers. Its tap is in quarantine then, so it meets
nobody but us. IDENTITY makes it itself; only when it answers to its new address and token does its tap join the others.
"""

import logging
import os
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import anyio
import msgspec

from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.qemu.command import VOLUME_SLOTS
from bhatti.engines.qemu.copying import copy_sparse
from bhatti.engines.qemu.files import MachineFiles, check_space, find_volumes, make_config, volume_device
from bhatti.engines.qemu.mold import Mold, copy_machine, seal_mold, with_own_drives, with_volumes
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.plan import same_hardware
from bhatti.engines.qemu.record import Frame, MachineRecord, Phase, write_record
from bhatti.engines.qemu.sleep import SleepingVm
from bhatti.engines.stages import Stages, nobody_asked
from bhatti.errors import Conflict, EngineFailure, GuestFailure, GuestTimeout, InvalidRequest, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.deadlines import DEADLINES
from bhatti.guestlink.transports import Transport
from bhatti.model.sandbox import SandboxSpec
from lohar.wire.limits import LIMITS
from lohar.wire.messages import Identity, IdentityFile
from lohar.wire.volume import Volume

log = logging.getLogger(__name__)

IDENTITY_TIMEOUT_S = 20.0
"""From the first instruction to the answer at the new address: 0.1 s, with ten at once on a small host some seconds."""

CLOCK_SLACK_S = 0.5
"""The clock in an identity is late by the time that it takes to arrive: some 10 ms, but seconds where a guest that has
just woken up hardly gets to run. One that took longer than this is told the time again."""

ATTEMPTS_S = (0.03, 0.03, 0.03, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2, 0.5, 1.0)
"""How long to wait for a connection to the new address before trying again; the last is repeated. A packet that comes
before the guest has the address is lost, and the kernel would repeat it after a second only."""

MAX_FILES_BYTES = 512 << 10
"""Injected files beyond this do not fit into the one message (1 MiB) that an identity is, in base64."""


def fork_obstacle(spec: SandboxSpec) -> str | None:
    """Return why a sandbox cannot be made by fork, or None if it can."""
    if len(spec.volumes) > VOLUME_SLOTS:
        return f"it has more than {VOLUME_SLOTS} volumes"
    if sum(len(file.content) for file in spec.files) > MAX_FILES_BYTES:
        return f"its files have more than {MAX_FILES_BYTES >> 10} KiB together"
    return None


def check_shape(source: SandboxSpec, wanted: SandboxSpec) -> None:
    """Raise `InvalidRequest` (code `shape-differs`) unless a fork of `source` can be what is `wanted`."""
    for field in ("image", "cpus", "memory_mib", "disk_mib", "user"):
        theirs, ours = getattr(source, field), getattr(wanted, field)
        if theirs != ours:
            raise InvalidRequest(
                f"a fork of sandbox {source.name!r} has its {field}, {theirs}, not {ours}",
                hint="a fork goes on from the memory of another sandbox and cannot have another shape",
                code="shape-differs",
            )
    # Volumes go where a golden machine has slots for them, and no other machine has any.
    obstacle = "it has volumes" if wanted.volumes else fork_obstacle(wanted)
    if obstacle is not None:
        raise InvalidRequest(
            f"sandbox {wanted.name!r} cannot be a fork: {obstacle}",
            hint="create a sandbox that boots, and copy what it needs with `bhatti file cp`",
            code="cannot-fork",
        )


class ForkingVm(SleepingVm):
    """A machine that can be made from a mold (`wake_from`, or `wake_ready` and `become`), and be made one (`cast`)."""

    _plug: Plug | None = None

    async def wake_from(self, mold: Mold, stages: Stages, *, why: str) -> None:
        """Make everything and come up as a fork of `mold`. On failure or cancellation the caller must `remove`."""
        await self._wake(mold, stages)
        await self._join(stages, how="forked", why=why)

    async def wake_ready(self, mold: Mold) -> None:
        """Make everything and wait, halted and in quarantine, for whoever `become`s it. Otherwise like `wake_from`."""
        await self._wake(mold, Stages(nobody_asked, "images"))
        self._link = self._open_link(self._plug)
        await self._while_alive(self._practise)
        await self._halt()
        await self._note(how="pooled")

    async def become(self, spec: SandboxSpec, stages: Stages) -> None:
        """Make of a ready machine the sandbox of `spec`. On failure or cancellation the caller must `remove`."""
        generation = self.record.generation + 1
        with disk_errors_explained(self.files.directory):
            stages.begin("identity")
            plug, link = self._plug, self._link
            assert plug is not None
            assert link is not None
            await self._note(spec=spec, body=self.body, created_at=time.time())
            await anyio.to_thread.run_sync(make_config, self.files, spec, plug.dns, generation)
            await self._run()
            try:
                await self._while_alive(lambda: link.identity(self._identity(plug, generation, moves=False)))
            except GuestFailure as error:
                raise self._refused(error) from error
            await link.aclose()
            await self._note(generation=generation)
            await self._join(stages, how="pooled", why="made ready before it was asked for")

    @property
    def waits(self) -> bool:
        """Whether a ready machine is still there."""
        return self._alive

    async def _practise(self) -> None:
        """Do once what the first caller will want: QEMU has then translated all code for it, where it emulates."""
        assert self._link is not None
        await self._link.exec(["true"])
        await self._link.sync()

    async def _wake(self, mold: Mold, stages: Stages) -> None:
        """Make everything up to a guest that knows who it is, alone in quarantine."""
        with disk_errors_explained(self.files.directory):
            await anyio.to_thread.run_sync(self._make_directory)
            stages.begin("network")
            self._plug = plug = await self._network.quarantine(self.body, woken_as=IPv4Address(mold.record.address))
            stages.begin("layer")
            generation = mold.record.generation + 1
            await anyio.to_thread.run_sync(self._copy_disk, mold, plug, generation)
            stages.begin(self._host.engine)
            frame = await anyio.to_thread.run_sync(self._frame_of, mold)
            hardware = same_hardware(self._host, self.spec, self.files, frame, plug)
            if mold.has_memory_file:
                hardware = hardware.mapped_privately(mold.files.memory)
            await self._launch(hardware, plug.address)
            stages.begin("load")
            await self._while_alive(lambda: self._load(mold.files, with_memory=not mold.has_memory_file))
            await self._run()
            stages.begin("identity")
            await self._while_alive(lambda: self._become_itself(mold, plug, generation))
            await self._note(generation=generation)

    async def _join(self, stages: Stages, *, how: str, why: str) -> None:
        """Let a machine that knows who it is join the others."""
        with disk_errors_explained(self.files.directory):
            stages.begin("admit")
            await self._network.admit(self.body)
            self._link = self._open_link()
            await self._while_alive(self._wait_for_agent)
            stages.end()
            await self._has_come_up(how=how, why=why, timings_ms=stages.timings_ms)

    async def rehearse(self, plug: Plug) -> None:
        """Give a guest that nobody will meet an identity for practice: its forks then find all code for it loaded."""
        assert self._link is not None
        await self._link.identity(self._identity(plug, self.record.generation + 1, moves=False))
        await self._note(generation=self.record.generation + 1)
        await self._link.exec(["true"])

    async def cast(self, files: MachineFiles, *, lasting: bool = True) -> None:
        """Make a mold of this running machine, as it is at one moment; it is halted for that, and runs on.

        `files` is an empty directory; a mold that is not `lasting` is used at once, and only now. Shielded. On failure
        the machine runs on too, and the directory is the caller's.
        """
        if self.spec.volumes:
            raise Conflict(
                f"sandbox {self.spec.name!r} has volumes, which cannot be in two places",
                hint="fork a sandbox that has none",
                code="has-volumes",
            )
        with anyio.CancelScope(shield=True), disk_errors_explained(files.directory):
            if self._paused:
                await self._run()
            await self._write_back()
            if self.record.phase is Phase.RUNNING:  # else it is being made, and nobody will adopt it
                await self._note(phase=Phase.CASTING)
            await self._halt()
            try:
                record = await self._copy(files)
            finally:
                await self._run()
                if self.record.phase is Phase.CASTING:
                    await self._note(phase=Phase.RUNNING)
            await self._tell_time_if_possible()
            await anyio.to_thread.run_sync(lambda: seal_mold(self._host, record, files, lasting=lasting))

    async def _copy(self, files: MachineFiles) -> MachineRecord:
        """Copy all of this halted machine into a mold; return the record that goes with it."""
        await self._save(files)
        return await anyio.to_thread.run_sync(copy_machine, self.files, self.record, files)

    def _make_directory(self) -> None:
        try:
            self.files.directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise sandbox_exists(self.spec.id) from error
        self._exists = True
        write_record(self.files.directory, self.record)
        check_space(self.files.directory, self.spec.memory_mib)

    def _frame_of(self, mold: Mold) -> Frame:
        """Return the machine of the mold with drives of our own, volumes among them. Raises like `find_volumes`."""
        drives = with_own_drives(mold.frame, config=self.files.born, layer=self.files.layer)
        frame = msgspec.structs.replace(mold.frame, drives=drives)
        if not self.spec.volumes:
            return frame
        found = find_volumes(self._host.settings, self.spec.volumes)
        return with_volumes(frame, [(str(p), v.read_only) for p, v in zip(found, self.spec.volumes, strict=True)])

    def _copy_disk(self, mold: Mold, plug: Plug, generation: int) -> None:
        """Make the drives: the layer as it was, the config drive that the memory knows, and our own for later."""
        copy_sparse(mold.files.layer, self.files.layer)
        copy_sparse(mold.files.config, self.files.born)
        make_config(self.files, self.spec, plug.dns, generation)

    async def _become_itself(self, mold: Mold, plug: Plug, generation: int) -> None:
        """Tell the guest who it is, and wait until it answers as that."""
        woken_as = IPv4Address(mold.record.address)
        old = GuestLink(self._quarantine_transport(plug, woken_as), token=mold.record.spec.token)
        new = self._quarantine_transport(plug, plug.address)
        identity = self._identity(plug, generation, moves=woken_as != plug.address)
        begun = time.monotonic()
        if self.spec.init == mold.record.spec.init:
            identity = identity.replace(init="")  # it has run there, and runs on here if it runs at all
        refusals: list[GuestFailure] = []

        async def tell(scope: anyio.CancelScope) -> None:
            try:
                await old.identity(identity)
            except GuestFailure as error:
                refusals.append(error)
                scope.cancel()
            except Unavailable as error:
                # It cannot acknowledge over an address that it has given up. At the new one it is asked.
                log.debug("sandbox %s: %s", self.spec.id, error.message)

        try:
            with anyio.fail_after(IDENTITY_TIMEOUT_S):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(tell, tasks.cancel_scope)
                    await self._answers_as_itself(new, generation)
                    tasks.cancel_scope.cancel()
        except TimeoutError as error:
            raise GuestTimeout(
                f"sandbox {self.spec.name!r} did not take its identity within {IDENTITY_TIMEOUT_S:g} s",
                code="identity-timeout",
            ) from error
        finally:
            await old.aclose()
        if refusals:
            raise self._refused(refusals[0]) from refusals[0]
        if time.monotonic() - begun > CLOCK_SLACK_S:
            async with GuestLink(new, token=self.spec.token) as link:
                await link.resumed(generation=generation, keep_connections=True)

    def _refused(self, error: GuestFailure) -> EngineFailure:
        return EngineFailure(
            f"sandbox {self.spec.name!r} refused its identity: {error.message}", code="identity-refused"
        )

    def _quarantine_transport(self, plug: Plug, address: IPv4Address) -> Transport:
        return self._network.quarantine_transport(plug, address, self.record.forwards)

    def _identity(self, plug: Plug, generation: int, *, moves: bool) -> Identity:
        prefix = IPv4Network((0, str(plug.netmask))).prefixlen
        return Identity(
            generation=generation,
            clock_ns=time.time_ns(),
            entropy=os.urandom(LIMITS.entropy_bytes),
            sandbox_id=self.spec.id,
            hostname=self.spec.name,
            token=self.spec.token,
            mac=plug.card.mac if moves else "",
            address=f"{plug.address}/{prefix}" if moves else "",
            gateway=str(plug.gateway) if moves else "",
            dns=plug.dns,
            env=self.spec.env,
            files={file.path: IdentityFile(content=file.content, mode=file.mode) for file in self.spec.files},
            user=self.spec.user,
            init=self.spec.init or "",
            volumes=tuple(
                Volume(device=volume_device(index), mount=volume.target, read_only=volume.read_only)
                for index, volume in enumerate(self.spec.volumes)
            ),
        )

    async def _answers_as_itself(self, transport: Transport, generation: int) -> None:
        """Ask until the guest says hello as who it is to be; the caller sets the deadline."""
        attempt = 0
        while True:
            patience_s = ATTEMPTS_S[min(attempt, len(ATTEMPTS_S) - 1)]
            attempt += 1
            deadlines = replace(DEADLINES, connect_s=patience_s)
            async with GuestLink(transport, token=self.spec.token, deadlines=deadlines) as link:
                try:
                    hello = await link.hello()
                except GuestTimeout:
                    continue
                except (Unavailable, GuestFailure):
                    # Not there yet, or there and still the other, who does not know our token.
                    await anyio.sleep(ATTEMPTS_S[0])
                    continue
            if (hello.sandbox_id, hello.generation) == (self.spec.id, generation):
                return


def sandbox_exists(sandbox_id: str) -> Conflict:
    """Return the error for an id that is taken."""
    return Conflict(
        f"there is a sandbox {sandbox_id!r} already",
        hint="create it again: it will have another id",
        code="sandbox-exists",
    )
