"""One container: made, adopted, looked at, paused, stopped, started, ended. Every step of its end has its reason.

Theory of operation. A container is its directory with the record, and what Docker keeps. The record is written before
Docker is asked for anything, so whatever we are killed in the middle of, the next engine knows what to look for. What
happens to it behind our back we learn from Docker's events; an event is only the reason to look (`reconsider`), never
believed: it may be late, and about an earlier life.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.base import CauseOfDeath, Machine, ProgressCallback
from bhatti.engines.disk import disk_errors_explained
from bhatti.engines.docker import death
from bhatti.engines.docker.agent_files import unpack_agent
from bhatti.engines.docker.api_types import ContainerInfo
from bhatti.engines.docker.container import Surroundings, container_config, container_name
from bhatti.engines.docker.docker_container import DockerContainer
from bhatti.engines.docker.files import Home, LinkTransport, config_document, remove_tree
from bhatti.engines.docker.host import DockerHost
from bhatti.engines.docker.images import FoundImage
from bhatti.engines.docker.pool import ReadyContainer, ReadyPool, Shape
from bhatti.engines.docker.process import has_ended
from bhatti.engines.docker.record import STATUSES, ContainerRecord, Phase, describe, not_running, write_record
from bhatti.engines.docker.startup import Launch, Startup
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError, Conflict, EngineFailure, MissingDependency, NotFound, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.model.lifecycle import Event, after
from bhatti.model.sandbox import SandboxSpec

log = logging.getLogger(__name__)

LAST_GASP_S = 5.0
"""From the death of a container's init to Docker's knowing of it: milliseconds, on a busy host more."""

PROBE_S = 0.5
"""For an agent that is not frozen to answer: under a millisecond, on a host with many starting at once some ten."""

SETTLED = frozenset({Phase.RUNNING, Phase.STOPPED, Phase.FAILED})
"""Phases in which nothing of ours is under way, so that a difference is news."""


class DockerMachine:
    """One container of the engine; ended by `remove`, let go by `aclose`."""

    def __init__(self, host: DockerHost, record: ContainerRecord) -> None:
        self.record = record
        self.directory = host.settings.sandboxes_dir / record.spec.id
        self._host = host
        self._home = Home(host.settings.homes_dir / record.home)
        reference = record.container or container_name(host.instance, record.home)
        self._docker = DockerContainer(host.api, reference, record.home)
        self._link: GuestLink | None = None
        self._paused = False
        self._changing = False
        """Whether a call of ours is changing its state: what Docker says meanwhile is no news."""
        self._changes = 0
        self._looking = anyio.Lock()
        self._startup: Startup | None = None
        self._pid_seen = True

    @classmethod
    def new(cls, host: DockerHost, spec: SandboxSpec) -> "DockerMachine":
        """Return a container of which nothing exists yet."""
        record = ContainerRecord(
            phase=Phase.CREATING,
            spec=spec,
            created_at=time.time(),
            home=spec.id,
            runtime=host.runtime,
            why=host.why,
        )
        return cls(host, record)

    @property
    def spec(self) -> SandboxSpec:
        """What was asked for."""
        return self.record.spec

    @property
    def home(self) -> str:
        """The name of the directory that is mounted in it, by which Docker's labels know it."""
        return self.record.home

    async def create(self, progress: ProgressCallback, taken: Callable[[], set[str]], pool: ReadyPool) -> None:
        """Make it, or take a ready one, and wait for the agent; `taken` tells which volumes have a writer.

        On failure or cancellation the caller must `remove`.
        """
        stages = Stages(progress, "images")
        self._changing = True
        with disk_errors_explained(self.directory):
            image = await self._host.images.find(self.spec.image)
            volumes = await self._host.volumes.check(self.spec.volumes, taken())
            shape = Shape.of(self.spec, image, self._host.network.of(self.spec.owner))
            self.record = msgspec.structs.replace(self.record, agent=shape.agent)
            ready = pool.take(shape) if not volumes else None
            if ready is not None:
                await self._claim(ready, image, stages)
            else:
                await self._make(image, volumes, stages)
            await self._note(phase=Phase.RUNNING, timings_ms=stages.timings_ms)
        pool.want(shape, image)
        self._changed()

    async def start(self, progress: ProgressCallback, *, require_memory: bool) -> None:
        """Start it again from its disk; see `Engine.start`."""
        before = self.record
        after(STATUSES[before.phase], Event.START, sandbox=self.spec.name)
        if require_memory:
            raise Conflict(
                f"sandbox {self.spec.name!r} has no memory to go on with: a container keeps its disk alone",
                hint="start it without requiring its memory",
                code="memory-lost",
            )
        stages = Stages(progress, "network")
        self._changing = True
        try:
            await self._note(phase=Phase.STARTING, cause=None)
            await self._host.network.ensure(self.spec.owner)
            await anyio.to_thread.run_sync(self._home.remove_sockets)
            try:
                await self._start(stages, self._launch)
            except NotFound as error:
                raise EngineFailure(
                    f"sandbox {self.spec.name!r} cannot be started: {death.removed().detail}",
                    hint="destroy it and create a new one; its volumes are there",
                    code="container-gone",
                ) from error
            await self._note(
                phase=Phase.RUNNING,
                timings_ms=stages.timings_ms,
                how="disk-boot",
                why=f"a container keeps its disk over a stop, not its memory: {self._host.why}",
            )
        except BhattiError as error:
            await self._note(phase=Phase.FAILED, cause=CauseOfDeath(kind="boot-failed", detail=error.message))
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._note(phase=before.phase, cause=before.cause)
            raise
        finally:
            self._changed()

    async def stop(self) -> None:
        """Ask everything in it to end, and kill what does not: running → stopped. The disk is kept, memory is not."""
        after(STATUSES[self.record.phase], Event.STOP, sandbox=self.spec.name)
        self._changing = True
        try:
            await self._close_link()
            await self._note(phase=Phase.STOPPING)
            try:
                await self._docker.stop(self._host.settings.stop_timeout_s, paused=self._paused)
            except BhattiError:
                await self._note(phase=Phase.RUNNING)
                self._open_link()
                raise
            await self._note(phase=Phase.STOPPED)
        finally:
            self._changed()

    async def pause(self) -> None:
        """Freeze it: hot → warm. Nothing happens if it is frozen."""
        await self._set_paused(True)

    async def resume(self) -> None:
        """Let it go on: warm → hot. Nothing happens if it runs. Raises `GuestTimeout` if its agent is silent."""
        if await self._set_paused(False):
            await self.link().activity()

    async def adopt(self) -> None:
        """Take hold of what an earlier engine left; afterwards it runs, is stopped, or has failed with its cause."""
        if self.record.phase in (Phase.STARTING, Phase.STOPPING):
            # Nobody has been told that it runs, or somebody that it does not: both end at rest.
            await self._docker.end_quietly()
            await self._note(phase=Phase.STOPPED)
        if self.record.phase is Phase.RUNNING:
            self._open_link()
        await self.look()

    async def look(self) -> Machine:
        """Return it as it is now, after asking Docker."""
        async with self._looking:
            # A record that could not be read does not know its container: there is nothing to compare.
            while not self._changing and self.record.container and self.record.phase in SETTLED:
                changes = self._changes
                try:
                    info = await self._docker.inspect()
                except (Unavailable, MissingDependency) as error:
                    # The container does not need Docker to go on, nor do we to reach it.
                    return self.described(f"Docker does not answer: {error.message}")
                if changes == self._changes and not self._changing:  # or what was seen is somebody's doing
                    await self._take(info)
                    break
        return self.described()

    def described(self, why: str = "") -> Machine:
        """Return it as it was when it was last changed or looked at."""
        return describe(self.record, paused=self._paused, why=why or self.record.why)

    async def reconsider(self) -> None:
        """Look, because Docker says that something has happened to it. Never raises."""
        try:
            if self._startup is not None:
                await self._startup.suspect()
            await self.look()
        except (BhattiError, OSError) as error:
            log.error("sandbox %s: it could not be looked at: %s", self.spec.id, error)

    async def rename(self) -> None:
        """Have Docker call it by its sandbox, for people."""
        await self._docker.rename(container_name(self._host.instance, self.spec.id))

    def link(self) -> GuestLink:
        """Return the connection pool to the agent. Raises `Conflict` (code `not-running`)."""
        if self._link is None or self._paused or self._changing or self.record.phase is not Phase.RUNNING:
            raise self.not_running("hot")
        return self._link

    def not_running(self, wanted: str) -> Conflict:
        """Return the error for somebody who needs it to be `wanted`, which it is not."""
        return not_running(self.record, paused=self._paused, wanted=wanted)

    def read_console(self, max_bytes: int) -> str:
        """Return the last `max_bytes` of its output. Blocks."""
        return self._docker.read_console(max_bytes)

    async def remove(self) -> None:
        """End it and remove all it had but volumes. Shielded, idempotent, repeatable after a failure."""
        with anyio.CancelScope(shield=True):
            self._changing = True
            if await anyio.to_thread.run_sync(self.directory.exists):
                # Before anything is gone: killed from here on, the next engine finishes the removal.
                with suppress(OSError):  # a full disk must not keep anybody from freeing it
                    await self._note(phase=Phase.DESTROYING)
            # Connections first: requests under way fail with our words rather than with a reset.
            await self._close_link()
            # The container next: it would go on using what is removed below.
            await self._docker.remove()
            await anyio.to_thread.run_sync(remove_tree, self._home.directory)
            # The record last: as long as it is there, whatever step failed will be tried again.
            await anyio.to_thread.run_sync(remove_tree, self.directory)

    async def aclose(self) -> None:
        """Let go of it, which goes on running. Idempotent."""
        await self._close_link()

    async def _make(self, image: FoundImage, volumes: tuple[str, ...], stages: Stages) -> None:
        stages.begin("config")
        agent = await anyio.to_thread.run_sync(self._prepare, image)
        stages.begin("container")
        network, host = await self._host.network.ensure(self.spec.owner), self._host
        around = Surroundings(agent, self._home, network, volumes, host.instance)
        config = container_config(host.settings, self.spec, image.id, host.runtime, around)
        try:
            container = await self._docker.create(config)
        except NotFound:  # of the image: it was there at the last look, and somebody has removed it (`system prune`)
            config = msgspec.structs.replace(config, image=(await host.images.again(self.spec.image)).id)
            container = await self._docker.create(config)
        self.record = msgspec.structs.replace(self.record, container=container)
        stages.begin("start")
        await self._start(stages, self._launch)

    async def _claim(self, ready: ReadyContainer, image: FoundImage, stages: Stages) -> None:
        """Take over a container that was made before anybody had asked for it."""
        self._home, self._docker = ready.home, ready.docker
        self.record = msgspec.structs.replace(
            self.record,
            container=ready.docker.reference,
            home=ready.home.directory.name,
            why=f"taken from the pool of ready containers: {self._host.why}",
        )

        async def launch() -> ContainerInfo:
            document = config_document(self.spec, image.env)
            await anyio.to_thread.run_sync(ready.tell, document, self._host.settings.boot_timeout_s)
            return ready.info

        try:
            stages.begin("claim")  # whatever fails from here on finds the container in `self`, and removes it
            await anyio.to_thread.run_sync(self._make_directory)
            await self._start(stages, launch)
        finally:
            ready.close()

    def _prepare(self, image: FoundImage) -> Path:
        """Make everything of it that is on our side, and return the directory of its agent. Blocks."""
        agent = unpack_agent(image.boot, self._host.settings.agents_dir)
        self._make_directory()
        self._home.make()
        self._home.write(config_document(self.spec, image.env))
        return agent

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700)
        write_record(self.directory, self.record)

    async def _launch(self) -> ContainerInfo | None:
        """Have Docker start the container, and return what it says of it then."""
        await self._docker.start()
        return await self._docker.inspect()

    async def _start(self, stages: Stages, launch: Launch) -> None:
        """Let the agent begin and wait for it. On failure the container does not run."""
        self._startup = Startup(self.spec, self._docker, self._open_link(), self._host.settings.boot_timeout_s)
        try:
            info = await self._startup.run(stages, launch, rename=self.record.home != self.spec.id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._close_link()
                await self._docker.end_quietly()
            raise
        finally:
            self._startup = None
        address = info.address or "" if self._host.network.bridged else ""
        self.record = msgspec.structs.replace(self.record, pid=info.state.pid, address=address)
        self._paused = False

    async def _take(self, info: ContainerInfo | None) -> None:
        """Bring what we know up to date with what Docker says."""
        running = self.record.phase is Phase.RUNNING
        if running and info is not None and info.state.running and self._pid_seen and has_ended(info.state.pid):
            # Docker is about to learn it; or its processes are in a namespace that we do not see.
            with anyio.move_on_after(LAST_GASP_S):
                await self._docker.wait_stopped()
            info = await self._docker.inspect()
            self._pid_seen = info is None or not info.state.running
        if info is None:
            if not death.was_removed(self.record.cause):
                await self._fail(death.removed(self.record.cause.console_tail if self.record.cause else ""))
        elif running and not info.state.running:
            await self._fail(await self._docker.cause_of_death(info, self.spec.memory_mib))
        elif not running and info.state.running:
            # Started by hand: it is ours, but nobody who asks for it has been told.
            log.warning("sandbox %s was started by hand", self.spec.id)
            self.record = msgspec.structs.replace(self.record, pid=info.state.pid, address=info.address or "")
            self._open_link()
            await self._note(phase=Phase.RUNNING, how="disk-boot", why="somebody started its container by hand")
        if info is None or self.record.phase is not Phase.RUNNING:
            self._paused = False
        elif info.state.paused is not self._paused:
            # Docker's books may be wrong (see `DockerContainer.set_paused`): who answers is not frozen. Meanwhile
            # nobody new is let in, who would wait for an agent that cannot answer.
            self._paused = True
            self._paused = not await self._answers()

    async def _answers(self) -> bool:
        """Tell whether the agent answers at once."""
        if self._link is not None:
            with anyio.move_on_after(PROBE_S), suppress(BhattiError):
                await self._link.activity()
                return True
        return False

    async def _fail(self, cause: CauseOfDeath) -> None:
        log.warning("sandbox %s died: %s", self.spec.id, cause.detail)
        await self._close_link()
        try:
            await self._note(phase=Phase.FAILED, cause=cause)
        except OSError as error:
            # The next engine will find it dead, and come to the same end by itself.
            log.error("sandbox %s: its cause of death could not be written down: %s", self.spec.id, error)

    async def _set_paused(self, wanted: bool) -> bool:
        """Freeze it or let it go on; return whether that changed anything."""
        if self.record.phase is not Phase.RUNNING:
            raise self.not_running("running")
        self._changing = True
        try:
            changed = await self._docker.set_paused(wanted, believed=self._paused)
            self._paused = wanted
            return changed
        finally:
            self._changed()

    def _open_link(self) -> GuestLink:
        self._link = GuestLink(LinkTransport(self._home.link), token=self.spec.token)
        return self._link

    async def _close_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    def _changed(self) -> None:
        self._changing = False
        self._changes += 1

    async def _note(self, **changes: object) -> None:
        """Change the record, in memory and on disk."""
        self.record = msgspec.structs.replace(self.record, **changes)
        await anyio.to_thread.run_sync(write_record, self.directory, self.record)
