"""How containers are connected: a bridge network of this engine's own for each owner, or not at all."""

import contextlib
from collections.abc import Callable, Collection
from typing import Literal

import anyio

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import ALONE, LABEL_INSTANCE
from bhatti.errors import BhattiError, Conflict, NotFound, Unavailable
from bhatti.net.instance import bridge_name


class ContainerNetwork:
    """The networks of one engine; `name` is the administrator's own, `reason` why it is that one.

    On their own network containers reach each other and the host, and nobody else's containers reach them: Docker
    keeps networks apart (by its iptables setting, which makes the way to the outside as well). Docker's default bridge
    would mix them with those of strangers.
    """

    def __init__(self, api: DockerApi, instance: str, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        self._api = api
        self._instance = instance
        self._changing = anyio.Lock()
        """Held while a network is made or removed: who needs one must not find one that is about to go."""

    @classmethod
    async def open(
        cls, api: DockerApi, instance: str, *, wanted: Literal["auto", "bridge", "none"], inside: bool
    ) -> "ContainerNetwork":
        """Make the network, or find it; with `auto`, do without where that fails.

        `inside` is false for a runtime that gives containers no interface but a loopback, whatever Docker prepares.
        """
        if wanted == "none":
            return cls(api, instance, ALONE, "set in the settings")
        if not inside:
            return cls(api, instance, ALONE, "the runtime is configured with --network=none")
        name = f"bhatti-{instance}"
        try:
            await _ensure(api, name, interface_name(instance), instance)
        except Unavailable:
            raise
        except BhattiError as error:
            if wanted == "bridge":
                raise
            return cls(api, instance, ALONE, f"no bridge can be made: {error.message}")
        return cls(api, instance, name, f"bridge {interface_name(instance)}")

    @property
    def bridged(self) -> bool:
        """Whether containers have an address."""
        return self.name != ALONE

    def of(self, owner: str) -> str:
        """Return the name of the network that an owner's containers are put into."""
        return f"{self.name}-{owner}" if owner and self.bridged else self.name

    async def ensure(self, owner: str = "") -> str:
        """Make an owner's network, unless it is there; return its name."""
        if self.bridged:
            async with self._changing:
                await _ensure(self._api, self.of(owner), interface_name(self._instance, owner), self._instance)
        return self.of(owner)

    async def remove(self, owner: str = "", *, unless: Callable[[], bool] = lambda: False) -> None:
        """Remove an owner's network; one that is in use stays, and one of which `unless` says that it is needed."""
        async with self._changing:
            if self.bridged and not unless():
                await self._remove(self.of(owner))

    async def sweep(self, owners: Collection[str]) -> None:
        """Remove all networks of this engine but the administrator's and those of `owners`, so far as nobody is in."""
        kept = {self.name, *map(self.of, owners)}
        async with self._changing:
            for network in await self._api.networks(f"{LABEL_INSTANCE}={self._instance}") if self.bridged else ():
                if network.name not in kept:
                    await self._remove(network.name)

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(Conflict, NotFound):
            await self._api.remove_network(name)


def interface_name(instance: str, owner: str = "") -> str:
    """Return the name of a bridge on the host: `bhd` and the instance's digits, or 12 others with an owner."""
    return bridge_name(instance, owner, prefix="bhd")


async def _ensure(api: DockerApi, name: str, interface: str, instance: str) -> None:
    if not any(network.name == name for network in await api.networks(f"{LABEL_INSTANCE}={instance}")):
        with contextlib.suppress(Conflict):
            await api.create_network(name, interface, {LABEL_INSTANCE: instance})
