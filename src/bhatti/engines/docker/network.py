"""How containers are connected: a bridge network of this engine's own, or not at all."""

import contextlib
from typing import Literal

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import ALONE, LABEL_INSTANCE
from bhatti.errors import BhattiError, Conflict, NotFound, Unavailable


class ContainerNetwork:
    """The network of one engine; `name` is what containers are put into, `reason` why it is that one.

    On their own network containers reach each other and the host, and nobody else's containers reach them. Docker's
    default bridge would mix them with those of strangers. The way to the outside is dockerd's to make (its iptables
    setting).
    """

    def __init__(self, api: DockerApi, instance: str, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        self._api = api
        self._instance = instance

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
            await _ensure(api, name, instance)
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

    async def ensure(self) -> None:
        """Make the network again if somebody has removed it."""
        if self.bridged:
            await _ensure(self._api, self.name, self._instance)

    async def remove(self) -> None:
        """Remove the network; one that is in use stays."""
        if self.bridged:
            with contextlib.suppress(Conflict, NotFound):
                await self._api.remove_network(self.name)


def interface_name(instance: str) -> str:
    """Return the name of the bridge on the host: `bhd` and the instance's digits."""
    return f"bhd{instance}"


async def _ensure(api: DockerApi, name: str, instance: str) -> None:
    if not any(network.name == name for network in await api.networks(f"{LABEL_INSTANCE}={instance}")):
        with contextlib.suppress(Conflict):
            await api.create_network(name, interface_name(instance), {LABEL_INSTANCE: instance})
