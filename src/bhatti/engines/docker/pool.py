"""Containers made before anybody asks: a sandbox of the usual shape is then there in a few milliseconds.

Theory of operation. A ready container has started its agent as far as the place where it reads its configuration,
which is a pipe: there it waits, and nothing in it belongs to anybody yet. Whoever creates a sandbox of that shape takes
it, writes the configuration, and the agent goes on as at any start. The pool is kept for the shape that was asked for
last. Nothing of it is recorded: an engine that finds a container without a record removes it.
"""

import contextlib
import errno
import logging
import os
import secrets
import select
import time
from dataclasses import dataclass

import anyio

from bhatti.engines.docker.agent_files import agent_version, unpack_agent
from bhatti.engines.docker.api_types import ContainerInfo
from bhatti.engines.docker.container import Surroundings, container_config, container_name
from bhatti.engines.docker.docker_container import DockerContainer
from bhatti.engines.docker.files import Home, remove_tree
from bhatti.engines.docker.host import DockerHost
from bhatti.engines.docker.images import FoundImage
from bhatti.errors import BhattiError, EngineFailure, GuestTimeout
from bhatti.model.sandbox import SandboxSpec

log = logging.getLogger(__name__)

LOOK_S = 0.01
"""Between two looks whether the agent waits at the pipe yet: nothing tells when it does."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What cannot be changed once a container is made. `agent` is the version of the agent."""

    image: str
    agent: str
    cpus: int
    memory_mib: int
    network: str

    @classmethod
    def of(cls, spec: SandboxSpec, image: FoundImage, network: str) -> "Shape":
        """Return the shape of a sandbox without volumes."""
        return cls(image.id, agent_version(image.boot), spec.cpus, spec.memory_mib, network)


class ReadyContainer:
    """A container whose agent waits to be told whom it serves; `pipe` is the descriptor to tell it by."""

    def __init__(self, shape: Shape, home: Home, docker: DockerContainer, info: ContainerInfo, pipe: int) -> None:
        self.shape = shape
        self.home = home
        self.docker = docker
        self.info = info
        self._pipe = pipe

    @property
    def waits(self) -> bool:
        """Whether the agent still reads at the other end."""
        if self._pipe < 0:
            return False
        poll = select.poll()
        poll.register(self._pipe, select.POLLOUT)
        return not any(events & select.POLLERR for _, events in poll.poll(0))

    def tell(self, document: bytes, timeout_s: float) -> None:
        """Give the agent its configuration, for now and for every later start. Blocks, for `timeout_s` at most.

        Raises `BrokenPipeError` if the agent is gone, `GuestTimeout` (code `boot-timeout`) if it does not read it all:
        a thread that waited for a frozen one would wait for ever.
        """
        self.home.write(document)
        with contextlib.closing(self):
            room = select.poll()
            room.register(self._pipe, select.POLLOUT)
            end = time.monotonic() + timeout_s
            left = memoryview(document)
            while left:
                if not room.poll(max(0.0, end - time.monotonic()) * 1000):
                    raise GuestTimeout(
                        f"the agent that was to become a sandbox did not read who it is within {timeout_s:g} s",
                        hint="raise boot_timeout_s if the host is slow; see `bhatti doctor`",
                        code="boot-timeout",
                    )
                left = left[os.write(self._pipe, left) :]

    def close(self) -> None:
        """Let go of the pipe: an agent that has not been told anything ends. Idempotent."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    async def discard(self) -> None:
        """Remove it, unused. Shielded, idempotent, repeatable after a failure."""
        self.close()
        with anyio.CancelScope(shield=True):
            await self.docker.remove()
            await anyio.to_thread.run_sync(remove_tree, self.home.directory)


class ReadyPool:
    """Up to `size` ready containers of one shape."""

    def __init__(self, host: DockerHost, size: int) -> None:
        self._host = host
        self._size = size
        self._wanted: tuple[Shape, FoundImage] | None = None
        self._ready: list[ReadyContainer] = []
        self._asked = anyio.Event()

    @property
    def count(self) -> int:
        """How many are ready."""
        return sum(ready.waits for ready in self._ready)

    def take(self, shape: Shape) -> ReadyContainer | None:
        """Return a ready container of that shape, which is the caller's from now on; None if there is none."""
        for ready in self._ready:
            if ready.shape == shape and ready.waits:
                self._ready.remove(ready)
                return ready
        return None

    def want(self, shape: Shape, image: FoundImage) -> None:
        """Keep the pool for that shape, and fill it up."""
        self._wanted = shape, image
        self._asked.set()

    async def forsake(self, network: str) -> None:
        """Keep nothing ready on a network whose owner has no sandbox left."""
        if self._wanted is not None and self._wanted[0].network == network:
            self._wanted = None
            self._asked.set()  # what is being made at this moment is of no use either
            await self._discard([ready for ready in self._ready if ready.shape.network == network])

    async def fill(self) -> None:
        """Make what is missing whenever somebody wants something, until cancelled."""
        while self._size:
            await self._asked.wait()
            self._asked = anyio.Event()
            try:
                await self._fill_up()
            except (BhattiError, OSError) as error:
                # Tried again at the next creation, which does without.
                log.warning("no container could be made ready: %s", error)

    async def aclose(self) -> None:
        """Remove all of them; `fill` must have ended. Idempotent."""
        await self._discard(list(self._ready))

    async def _discard(self, useless: list[ReadyContainer]) -> None:
        """Remove some. One that cannot be removed stays, to be tried again here or by the next engine's `adopt`."""
        for ready in useless:
            try:
                await ready.discard()
            except (BhattiError, OSError) as error:
                log.error("container %s, which was ready, could not be removed: %s", ready.docker.reference[:12], error)
            else:
                # Only now: whoever is cancelled meanwhile leaves nothing that nobody knows. Somebody else may have
                # removed the same one.
                self._ready = [other for other in self._ready if other is not ready]

    async def _fill_up(self) -> None:
        wanted = self._wanted
        await self._discard(
            [ready for ready in self._ready if wanted is None or ready.shape != wanted[0] or not ready.waits]
        )
        while wanted is not None and len(self._ready) < self._size and self._wanted == wanted:
            self._ready.append(await self._make(*wanted))

    async def _make(self, shape: Shape, image: FoundImage) -> ReadyContainer:
        host = self._host
        name = f"ready-{secrets.token_hex(8)}"
        home = Home(host.settings.homes_dir / name)
        docker = DockerContainer(host.api, container_name(host.instance, name), name)
        nobody = SandboxSpec(
            id=name, name=name, image="", cpus=shape.cpus, memory_mib=shape.memory_mib, disk_mib=1, token=""
        )
        pipe = -1
        try:
            await anyio.to_thread.run_sync(_make_home, home)
            agent = await anyio.to_thread.run_sync(unpack_agent, image.boot, host.settings.agents_dir)
            around = Surroundings(agent=agent, home=home, network=shape.network, volumes=(), instance=host.instance)
            await docker.create(container_config(host.settings, nobody, shape.image, host.runtime, around))
            await docker.start()
            pipe = await self._reach(home, docker)
            info = await docker.inspect()
            if info is None:
                raise EngineFailure("a container that was being made ready is gone", code="container-gone")
        except BaseException:
            if pipe >= 0:
                os.close(pipe)
            with anyio.CancelScope(shield=True):
                await docker.remove()
                await anyio.to_thread.run_sync(remove_tree, home.directory)
            raise
        return ReadyContainer(shape, home, docker, info, pipe)

    async def _reach(self, home: Home, docker: DockerContainer) -> int:
        """Return the pipe's end of ours, once the agent waits at the other."""
        deadline = anyio.current_time() + self._host.settings.boot_timeout_s
        while anyio.current_time() < deadline and await docker.runs():
            try:
                return os.open(home.document, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
            await anyio.sleep(LOOK_S)
        raise EngineFailure(f"an agent that was to be ready is not: {await docker.tail()}", code="boot-failed")


def can_be_ready(host: DockerHost) -> str:
    """Return why this host cannot have ready containers; empty if it can."""
    if os.geteuid() != 0:
        return "only root can give a container that runs another host name"
    if host.is_gvisor:
        return "gVisor shows sandboxes no pipes of the host"
    return ""


def _make_home(home: Home) -> None:
    home.make()
    os.mkfifo(home.document, 0o600)
