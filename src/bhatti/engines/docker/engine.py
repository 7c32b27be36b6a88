"""The Docker engine: sandboxes as containers, for development and for hosts without virtual machines."""

import contextlib
import logging
import time
from functools import partial
from pathlib import Path
from typing import Self

import anyio
from anyio.abc import TaskGroup

from bhatti.engines.base import Capabilities, Engine, Finding, Machine, ProgressCallback
from bhatti.engines.deaths import Deaths
from bhatti.engines.docker import doctor
from bhatti.engines.docker.agent_files import sweep_agents
from bhatti.engines.docker.api_types import Event
from bhatti.engines.docker.container import LABEL_HOME, LABEL_INSTANCE
from bhatti.engines.docker.files import remove_tree
from bhatti.engines.docker.host import DockerHost, open_host
from bhatti.engines.docker.machine import DockerMachine
from bhatti.engines.docker.pool import ReadyPool, can_be_ready
from bhatti.engines.docker.record import Phase, read_record, wreck
from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.docker.volumes import Volumes
from bhatti.engines.told import told
from bhatti.errors import BhattiError, Busy, Conflict, CorruptData, InvalidRequest, NotFound, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec, Status, Temperature, checked_name

log = logging.getLogger(__name__)

RECONNECT_S = 1.0
"""Between two attempts to hear Docker's events: a dockerd restarts in two to three seconds."""

NEWS = frozenset({"die", "destroy", "pause", "unpause", "start"})
"""Events that change what a container is; the others (attach, exec, oom of a command …) do not."""


class DockerEngine(Engine):
    """All containers of one state directory. Entered and left in the same task."""

    name = "docker"
    images_elsewhere = True

    def __init__(self, settings: DockerSettings) -> None:
        self.settings = settings
        self._opened: DockerHost | None = None
        self._machines: dict[str, DockerMachine] = {}
        self._pool: ReadyPool | None = None
        self._tasks: TaskGroup | None = None

    @classmethod
    def examine(cls, settings: DockerSettings) -> list[Finding]:
        """See `Engine.examine`."""
        return doctor.examine(settings)

    @property
    def capabilities(self) -> Capabilities:
        """See `Engine.capabilities`. A stopped container keeps its disk, and loses what was in memory."""
        return Capabilities(
            own_kernel=False,
            pause=True,
            memory_snapshot=False,
            fork=False,
            bridge_network=self._host.network.bridged,
            rootless=False,
            disk_limit=False,
            volume_limit=False,
            volume_clone=False,
            fork_volumes=False,
            sudo=self._host.sudo,
        )

    @property
    def host(self) -> DockerHost:
        """What the engine found when it was entered: Docker, runtime, network, with reasons."""
        return self._host

    @property
    def ready(self) -> int:
        """How many ready containers wait for whoever creates a sandbox."""
        return self._pool.count if self._pool is not None else 0

    @property
    def deaths(self) -> Deaths:
        """See `Engine.deaths`."""
        return self._host.deaths

    @property
    def volumes(self) -> Volumes:
        """The volumes that sandboxes of this engine can have."""
        return self._host.volumes

    async def __aenter__(self) -> Self:
        """See `Engine.__aenter__`."""
        self._opened = host = await open_host(self.settings)
        log.info("docker %s, runtime %s", host.info.server_version, host.runtime)
        log.info("network %s: %s", host.network.name, host.network.reason)
        unable = can_be_ready(host) if self.settings.pool else ""
        if unable:
            log.warning("no containers are kept ready: %s", unable)
        self._pool = ReadyPool(host, 0 if unable else self.settings.pool)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._pool.fill)
        self._tasks.start_soon(self._follow_events, self._tasks)
        return self

    async def aclose(self) -> None:
        """See `Engine.aclose`; with the last container gone, the network goes too."""
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                tasks.cancel_scope.cancel()
                await tasks.__aexit__(None, None, None)
        finally:
            # Also where whoever uses the engine is cancelled: the group has waited for its tasks before it says so.
            with anyio.CancelScope(shield=True):
                await self._let_go()

    async def _let_go(self) -> None:
        host, self._opened = self._opened, None
        idle = not self._machines
        try:
            if self._pool is not None:
                await self._pool.aclose()
            for machine in self._machines.values():
                await machine.aclose()
        finally:
            self._machines.clear()
            if host is not None:
                try:
                    if idle:
                        with told(log, "a network could not be removed"):
                            await host.network.sweep(())
                            await host.network.remove()
                finally:
                    await host.api.aclose()

    async def adopt(self) -> list[Machine]:
        """See `Engine.adopt`."""
        for directory in await anyio.to_thread.run_sync(_directories, self.settings.sandboxes_dir):
            await self._adopt_one(directory)
        await self._end_strays()
        with told(log, "a network could not be removed"):
            await self._host.network.sweep({machine.spec.owner for machine in self._machines.values()})
        homes = {machine.home for machine in self._machines.values()}
        await anyio.to_thread.run_sync(_sweep_homes, self.settings.homes_dir, homes)
        await self._host.images.sweep()
        await anyio.to_thread.run_sync(
            sweep_agents, self.settings.agents_dir, {machine.record.agent for machine in self._machines.values()}
        )
        return await self.list()

    async def create(self, spec: SandboxSpec, *, progress: ProgressCallback | None = None) -> Machine:
        """See `Engine.create`."""
        checked_name(spec.id)
        if spec.id in self._machines or (self.settings.sandboxes_dir / spec.id).exists():
            raise Conflict(
                f"there is a sandbox {spec.id!r} already",
                hint="create it again: it will have another id",
                code="sandbox-exists",
            )
        machine = self._machines[spec.id] = DockerMachine.new(self._host, spec)
        try:
            await self._create(machine, progress or _nobody_asked)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await machine.remove()
                self._machines.pop(spec.id, None)  # the engine may have been closed meanwhile
                await self._leave(spec.owner)
            raise
        return machine.described()

    async def _leave(self, owner: str) -> None:
        """Remove the network of an owner who has no sandbox left; the administrator's own goes with the engine."""

        def needed() -> bool:
            return any(machine.spec.owner == owner for machine in self._machines.values())

        if owner and not needed():
            assert self._pool is not None
            await self._pool.forsake(self._host.network.of(owner))
            with told(log, "a network could not be removed"):
                await self._host.network.remove(owner, unless=needed)

    async def _create(self, machine: DockerMachine, progress: ProgressCallback) -> None:
        assert self._pool is not None
        taken = partial(self._written_volumes, before=machine.spec.id)
        await machine.create(progress, taken, self._pool)
        if machine.home != machine.spec.id and self._tasks is not None:
            # People look for it by its name in Docker; nobody has to wait for that.
            self._tasks.start_soon(machine.rename)

    async def destroy(self, sandbox_id: str) -> None:
        """See `Engine.destroy`. Volumes stay."""
        machine = self._machine(sandbox_id)
        with anyio.CancelScope(shield=True):
            await machine.remove()
            # Only now: a destroy that failed can be asked for again.
            self._machines.pop(sandbox_id, None)
            await self._leave(machine.spec.owner)

    async def pause(self, sandbox_id: str) -> Machine:
        """See `Engine.pause`."""
        machine = self._machine(sandbox_id)
        with anyio.CancelScope(shield=True):
            await machine.pause()
        return machine.described()

    async def resume(self, sandbox_id: str) -> Machine:
        """See `Engine.resume`. The clock needs no setting: it is the host's."""
        machine = self._machine(sandbox_id)
        with anyio.CancelScope(shield=True):
            await machine.resume()
        return machine.described()

    async def stop(self, sandbox_id: str, *, memory: bool = True) -> Machine:
        """See `Engine.stop`. Containers cannot keep their memory, so it must be given up expressly."""
        machine = self._machine(sandbox_id)
        if memory:
            raise InvalidRequest(
                "the engine docker cannot keep the memory of a sandbox: stopping it ends its processes",
                hint="pause it to keep them, or stop it without its memory: bhatti stop --no-memory",
                code="unsupported",
            )
        with anyio.CancelScope(shield=True):
            await machine.stop()
        return machine.described()

    async def start(
        self, sandbox_id: str, *, require_memory: bool = False, progress: ProgressCallback | None = None
    ) -> Machine:
        """See `Engine.start`. It is always a disk boot."""
        machine = self._machine(sandbox_id)
        await machine.start(progress or _nobody_asked, require_memory=require_memory)
        return machine.described()

    async def ensure_hot(self, sandbox_id: str) -> Machine:
        """See `Engine.ensure_hot`."""
        machine = await self._machine(sandbox_id).look()
        match machine.status, machine.temperature:
            case Status.RUNNING, Temperature.HOT:
                return machine
            case Status.RUNNING, _:
                return await self.resume(sandbox_id)
            case Status.STOPPED, _:
                return await self.start(sandbox_id)
            case _:
                raise self._machine(sandbox_id).not_running("hot")

    async def status(self, sandbox_id: str) -> Machine:
        """See `Engine.status`."""
        return await self._machine(sandbox_id).look()

    async def release_images(self) -> None:
        """See `Engine.release_images`: what Docker was given to make containers from, and its layers."""
        self._check_idle()
        await self._host.images.sweep()

    async def needed_files(self) -> frozenset[Path]:
        """See `Engine.needed_files`: none, for Docker has what containers are made from, and the agent is unpacked."""
        self._check_idle()
        return frozenset()

    def _check_idle(self) -> None:
        for machine in self._machines.values():
            if machine.record.phase is Phase.CREATING:
                raise Busy(f"sandbox {machine.spec.name!r} is being made", hint="try again in a moment")

    def link(self, sandbox_id: str) -> GuestLink:
        """See `Engine.link`."""
        return self._machine(sandbox_id).link()

    def console(self, sandbox_id: str, *, max_bytes: int = 65_536) -> str:
        """See `Engine.console`. Blocks for some milliseconds: Docker keeps it."""
        return self._machine(sandbox_id).read_console(max_bytes)

    async def list(self) -> list[Machine]:  # last of the public ones: below it, `list` means this method
        """See `Engine.list`."""
        machines = sorted(self._machines.values(), key=lambda machine: machine.record.created_at)
        return [await machine.look() for machine in machines]

    @property
    def _host(self) -> DockerHost:
        if self._opened is None:
            raise Unavailable("the engine is not open", hint="use it as an async context manager", code="not-open")
        return self._opened

    def _machine(self, sandbox_id: str) -> DockerMachine:
        try:
            return self._machines[sandbox_id]
        except KeyError:
            raise NotFound(
                f"the engine has no sandbox {sandbox_id!r}",
                hint="`bhatti ls` shows what there is",
                code="sandbox-not-found",
            ) from None

    def _written_volumes(self, *, before: str) -> set[str]:
        """Return the volumes that a sandbox made before that one can write to."""
        taken: set[str] = set()
        for sandbox_id, machine in self._machines.items():
            if sandbox_id == before:
                break
            taken |= {volume.name for volume in machine.spec.volumes if not volume.read_only}
        return taken

    async def _adopt_one(self, directory: Path) -> None:
        try:
            record = await anyio.to_thread.run_sync(read_record, directory)
        except CorruptData as error:
            log.error("sandbox %s: %s", directory.name, error.message)
            record = wreck(directory.name, error.message)
        # Without a record, nothing was begun but the directory.
        machine = DockerMachine(self._host, record or wreck(directory.name, "it never came to be"))
        if record is None or record.phase in (Phase.CREATING, Phase.DESTROYING):
            log.warning("sandbox %s was left %s: removed", directory.name, record.phase if record else "empty")
            with told(log, f"sandbox {directory.name} could not be removed"):
                await machine.remove()
            if not await anyio.to_thread.run_sync(directory.exists):
                return
        else:
            with told(log, f"sandbox {directory.name} could not be taken over whole"):
                await machine.adopt()
        self._machines[directory.name] = machine

    async def _end_strays(self) -> None:
        """Remove containers of ours that no record knows."""
        known = {machine.home for machine in self._machines.values()}
        for container in await self._host.api.containers(f"{LABEL_INSTANCE}={self._host.instance}"):
            if (container.labels or {}).get(LABEL_HOME, "") not in known:
                log.warning("removed container %s, a sandbox that nobody knows", container.id[:12])
                with told(log, f"container {container.id[:12]} could not be removed"):
                    await self._host.api.remove_container(container.id)

    async def _follow_events(self, tasks: TaskGroup) -> None:
        """Hear what happens to our containers, for as long as the engine is open."""
        host, since = self._host, time.time()
        while True:
            events = host.api.events(f"{LABEL_INSTANCE}={host.instance}", since)
            try:
                async with contextlib.aclosing(events):
                    async for event in events:
                        since = event.time_nano / 1e9
                        self._heard(event, tasks)
                log.warning("Docker ended the stream of its events")
            except BhattiError as error:
                log.warning("Docker's events cannot be heard: %s", error.message)
            await anyio.sleep(RECONNECT_S)
            # Docker forgets its events when it is restarted: look at everything instead.
            for machine in list(self._machines.values()):
                tasks.start_soon(self._reconsider, machine)

    def _heard(self, event: Event, tasks: TaskGroup) -> None:
        if event.action in NEWS:
            home = event.actor.attributes.get(LABEL_HOME, "")
            for machine in self._machines.values():
                if machine.home == home:
                    tasks.start_soon(self._reconsider, machine)

    async def _reconsider(self, machine: DockerMachine) -> None:
        await machine.reconsider()
        if machine.record.phase is Phase.FAILED:
            self.deaths.died(machine.spec.id)


def _sweep_homes(homes: Path, keep: set[str]) -> None:
    for path in _directories(homes):
        if path.name not in keep:
            with told(log, f"{path} could not be removed"):
                remove_tree(path)


def _directories(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir())


def _nobody_asked(stage: str) -> None:
    """Take the place of a progress callback."""
