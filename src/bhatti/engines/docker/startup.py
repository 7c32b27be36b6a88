"""From a container that is told to run to an agent that answers, or to the reason why it does not."""

from collections.abc import Awaitable, Callable

import anyio

from bhatti.engines.docker import boot_errors
from bhatti.engines.docker.api_types import ContainerInfo
from bhatti.engines.docker.docker_container import DockerContainer
from bhatti.engines.docker.process import set_hostname
from bhatti.engines.stages import Stages
from bhatti.errors import BhattiError, GuestTimeout
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec

Launch = Callable[[], Awaitable[ContainerInfo | None]]
"""Lets the agent begin, and returns what Docker says of the container then."""


class Startup:
    """One start of one container; `run` it once."""

    def __init__(self, spec: SandboxSpec, docker: DockerContainer, link: GuestLink, timeout_s: float) -> None:
        self._spec = spec
        self._docker = docker
        self._link = link
        self._timeout_s = timeout_s
        self._launched = False
        self._answered = False
        self._over = anyio.Event()
        self._failure: BhattiError | None = None

    async def run(self, stages: Stages, launch: Launch, *, rename: bool) -> ContainerInfo:
        """Wait until the agent answers, but no longer than its container lives; return what Docker says of it.

        With `rename` the container gets the sandbox's host name, because Docker knows it by another. Raises
        `EngineFailure` (code `boot-failed`), `GuestTimeout` (code `boot-timeout`), and what `launch` raises.
        """
        failure: BhattiError | None = None
        found: list[ContainerInfo] = []
        async with anyio.create_task_group() as tasks:
            # From now on: the agent is up before Docker has told us that its container runs.
            tasks.start_soon(self._ask)
            try:
                found.append(await self._bring_up(stages, launch, rename))
            except BhattiError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return found[0]

    async def suspect(self) -> None:
        """Look whether the container still runs, because somebody says that something happened to it."""
        if self._launched and not await self._docker.runs():
            self._over.set()

    async def _ask(self) -> None:
        try:
            await self._link.wait_ready(timeout_s=self._timeout_s)
            self._answered = True
        except BhattiError as error:
            self._failure = error
        self._over.set()

    async def _bring_up(self, stages: Stages, launch: Launch, rename: bool) -> ContainerInfo:
        info = await launch()
        self._launched = True
        stages.begin("agent")
        if info is not None and info.state.running:
            if rename:
                await anyio.to_thread.run_sync(set_hostname, info.state.pid, self._spec.name)
            await self._over.wait()
            if self._answered:
                stages.end()
                return info
            info = await self._docker.inspect()
        if info is None or not info.state.running:
            cause = await self._docker.cause_of_death(info, self._spec.memory_mib)
            raise boot_errors.died(self._spec, cause)
        if self._failure is not None and not isinstance(self._failure, GuestTimeout):
            raise self._failure
        raise boot_errors.silent(self._spec, self._timeout_s, await self._docker.tail()) from self._failure
