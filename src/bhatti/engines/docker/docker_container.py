"""A container as Docker has it: what it says of it, its output, its end. Knows nothing of agents and records."""

import logging

import anyio

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.docker import console, death
from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.api_types import ContainerConfig, ContainerInfo
from bhatti.engines.docker.container import LABEL_HOME
from bhatti.errors import BhattiError, NotFound

log = logging.getLogger(__name__)

SETTLING_S = (0.0, 0.02, 0.1, 0.5)
"""How long Docker's books are given to become right, between attempts. Expected: a few milliseconds."""


class DockerContainer:
    """The container of one home; `reference` is Docker's id of it, or before that is known, its name."""

    def __init__(self, api: DockerApi, reference: str, home: str) -> None:
        self.reference = reference
        self._api = api
        self._home = home

    async def create(self, config: ContainerConfig) -> str:
        """Make it under the name it is known by so far; return Docker's id."""
        # Never broken off: Docker would go on, and whoever removes it meanwhile would find nothing yet.
        with anyio.CancelScope(shield=True):
            self.reference = await self._api.create_container(self.reference, config)
        return self.reference

    async def rename(self, name: str) -> None:
        """Give it another name, for people. Never raises a `BhattiError`."""
        try:
            await self._api.rename_container(self.reference, name)
        except NotFound:
            return  # it was for a moment only
        except BhattiError as error:
            log.warning("container %s keeps its name: %s", self.reference, error.message)

    async def start(self) -> None:
        """Start its init."""
        # Never broken off either: a container that is removed in the middle of its start may leave its end of the
        # network behind in Docker's books, and the network can then not be removed before dockerd is restarted.
        with anyio.CancelScope(shield=True):
            await self._api.start_container(self.reference)

    async def stop(self, grace_s: float, *, paused: bool) -> None:
        """Ask its init to end, kill it after `grace_s`."""
        if paused:
            # A frozen process takes no signal: it would be killed when the time is up.
            await self._api.unpause_container(self.reference)
        await self._api.stop_container(self.reference, grace_s)

    async def end_quietly(self) -> None:
        """End its processes at once, if there are any; it stays. Never raises a `BhattiError`."""
        try:
            await self._api.stop_container(self.reference, 0)
        except NotFound:
            return
        except BhattiError as error:
            log.error("container %s could not be stopped: %s", self.reference, error.message)

    async def remove(self) -> None:
        """End it, and remove it with its disk; nothing happens if there is none."""
        await self._api.remove_container(self.reference)

    async def set_paused(self, wanted: bool, *, believed: bool) -> bool:
        """Freeze it or let it go on; return whether that changed anything. `believed` is what it is, as far as we know.

        Docker refuses what it thinks has been done before. It may be wrong: it changes its mind by events that come
        late, so that a pause soon after an unpause ends as "not paused" in its books and frozen in fact, or the other
        way round. Where it contradicts us, the opposite is done first; where it refuses that too, what is true is about
        to reach its books.
        """
        for pause_s in SETTLING_S:
            try:
                await self._freeze(wanted)
            except BhattiError:
                info = await self.inspect()
                if info is None or not info.state.running:
                    raise
                if info.state.paused is not wanted:
                    await anyio.sleep(pause_s)  # its books have changed since it refused, or it cannot: tried again
                    continue
                if believed is wanted:
                    return False
            else:
                return True
            try:
                await self._freeze(not wanted)
            except BhattiError:
                await anyio.sleep(pause_s)
        await self._freeze(wanted)
        return True

    async def _freeze(self, wanted: bool) -> None:
        await (self._api.pause_container if wanted else self._api.unpause_container)(self.reference)

    async def inspect(self) -> ContainerInfo | None:
        """Return what Docker says of it; None if there is no such container, or it is another's."""
        try:
            info = await self._api.container(self.reference)
        except NotFound:
            return None
        return info if (info.config.labels or {}).get(LABEL_HOME) == self._home else None

    async def runs(self) -> bool:
        """Tell whether it runs, paused or not."""
        info = await self.inspect()
        return info is not None and info.state.running

    async def wait_stopped(self) -> None:
        """Wait until it does not run; raises `NotFound`."""
        await self._api.wait_stopped(self.reference)

    async def cause_of_death(self, info: ContainerInfo | None, memory_mib: int) -> CauseOfDeath:
        """Return why it does not run, as `info` has it."""
        if info is None:
            return death.removed()
        return death.cause_of_death(info.state, memory_mib, await self.tail())

    async def tail(self) -> str:
        """Return the end of its output; empty if Docker has none any more."""
        try:
            framed = await self._api.logs(self.reference, console.TAIL_LINES)
        except BhattiError:
            return ""
        return console.tail(console.demultiplex(framed), death.TAIL_BYTES)

    def read_console(self, max_bytes: int) -> str:
        """Return the last `max_bytes` of its output. Blocks."""
        return console.tail(console.read_blocking(self._api.socket, self._api.prefix, self.reference), max_bytes)
