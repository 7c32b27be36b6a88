"""How machines are connected: a tap on a bridge as root, QEMU's user-mode network without root."""

import abc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import anyio

from bhatti.engines.qemu.command import TapCard, UserCard
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import EngineFailure, MissingDependency
from bhatti.guestlink.transports import TcpTransport, Transport
from bhatti.net import quarantine
from bhatti.net.abilities import bridge_ability
from bhatti.net.addresses import hardware_address
from bhatti.net.instance import instance_of
from bhatti.net.network import BridgeNetwork
from bhatti.net.networks import BridgeNetworks

AGENT_PORTS = (1024, 1025)
"""Where the agent listens: control and forward."""

USER_SUBNET = IPv4Network("10.0.2.0/24")
"""Every user-mode network is this one, each alone in its own process (QEMU's default)."""

USER_ADDRESS = IPv4Address("10.0.2.15")
USER_GATEWAY = IPv4Address("10.0.2.2")
USER_DNS = "10.0.2.3"
"""QEMU answers here and asks the host's own name servers."""


@dataclass(frozen=True, slots=True)
class Plug:
    """One machine's connection, before QEMU runs."""

    card: TapCard | UserCard
    address: IPv4Address
    gateway: IPv4Address
    netmask: IPv4Address
    dns: tuple[str, ...]


class MachineNetwork(abc.ABC):
    """A way to connect machines. `kind` names it in records and to people; safe to use from many tasks."""

    kind: str

    @abc.abstractmethod
    async def attach(self, sandbox_id: str, *, address: IPv4Address | None = None) -> Plug:
        """Prepare the connection of a machine; `address` is the one it had before. Idempotent; all or nothing."""

    @abc.abstractmethod
    async def quarantine(self, sandbox_id: str, *, woken_as: IPv4Address | None = None) -> Plug:
        """Prepare the connection of a machine that wakes up with another one's address, apart from all others.

        The plug has the address that it is to be told before `admit`. Without `woken_as` it is a machine that stays
        there, with the address that every such machine has. Idempotent; all or nothing.
        """

    @abc.abstractmethod
    async def admit(self, sandbox_id: str) -> None:
        """Let a machine join the others, now that it has been told its address."""

    @abc.abstractmethod
    def quarantine_transport(self, plug: Plug, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Return the way to the agent of a quarantined machine, while that has `address`."""

    @abc.abstractmethod
    async def detach(self, sandbox_id: str) -> None:
        """Remove what `attach` made, after the machine's process is gone. Idempotent."""

    @abc.abstractmethod
    def transport(self, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Return the way to the agent of a running machine."""


class BridgedNetwork(MachineNetwork):
    """Taps on the bridge of one owner: their guests reach each other, the host and the outside."""

    kind = "bridge"

    def __init__(self, bridge: BridgeNetwork, dns: tuple[str, ...]) -> None:
        self._bridge = bridge
        self._dns = dns

    async def attach(self, sandbox_id: str, *, address: IPv4Address | None = None) -> Plug:
        """Make tap and lease, both on the bridge."""
        lease = await anyio.to_thread.run_sync(lambda: self._bridge.attach(sandbox_id, address=address))
        netmask = IPv4Network((0, lease.prefix_length)).netmask
        return Plug(TapCard(lease.tap, lease.mac), lease.address, lease.gateway, netmask, self._dns)

    async def quarantine(self, sandbox_id: str, *, woken_as: IPv4Address | None = None) -> Plug:
        """Make a tap that is on no bridge, and a lease if the machine is to leave."""
        address, leased = woken_as or quarantine.GUEST, woken_as is not None
        lease = await anyio.to_thread.run_sync(lambda: self._bridge.quarantine(sandbox_id, address, lease=leased))
        netmask = IPv4Network((0, lease.prefix_length)).netmask
        return Plug(TapCard(lease.tap, lease.mac), lease.address, lease.gateway, netmask, self._dns)

    async def admit(self, sandbox_id: str) -> None:
        """Plug the tap into the bridge."""
        await anyio.to_thread.run_sync(self._bridge.admit, sandbox_id)

    def quarantine_transport(self, plug: Plug, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Connect through the tap itself, as its neighbour: who is root in a guest may have taken its routes."""
        assert isinstance(plug.card, TapCard)
        near = address in IPv4Interface((plug.address, str(plug.netmask))).network
        return TcpTransport(str(address), device=plug.card.tap, source=str(plug.gateway) if near else None)

    async def detach(self, sandbox_id: str) -> None:
        """Delete the tap, free the address."""
        await anyio.to_thread.run_sync(self._bridge.detach, sandbox_id)

    def transport(self, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Connect to the guest's own address."""
        return TcpTransport(str(address))


class UserModeNetwork(MachineNetwork):
    """QEMU plays the network itself. Needs no rights and no kernel objects, so there is nothing to remove.

    Guests cannot reach each other. What listens on the host's loopback is reachable from the guest at 10.0.2.2; QEMU
    7.2 has no switch for that short of `outside=False`. The agent's ports are on the host's loopback, where other
    users of the host can connect to them: the token is what keeps them out.
    """

    kind = "user"

    def __init__(self, settings: QemuSettings) -> None:
        self._outside = settings.outside

    async def attach(self, sandbox_id: str, *, address: IPv4Address | None = None) -> Plug:
        """Describe the card; QEMU makes the rest."""
        card = UserCard(USER_ADDRESS, hardware_address(USER_ADDRESS), AGENT_PORTS, self._outside)
        return Plug(card, USER_ADDRESS, USER_GATEWAY, USER_SUBNET.netmask, (USER_DNS,))

    async def quarantine(self, sandbox_id: str, *, woken_as: IPv4Address | None = None) -> Plug:
        """Every machine is alone in its network anyway, and all have the same address."""
        return await self.attach(sandbox_id)

    async def admit(self, sandbox_id: str) -> None:
        """There is nothing to join."""

    def quarantine_transport(self, plug: Plug, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Connect as to any other."""
        return self.transport(address, forwards)

    async def detach(self, sandbox_id: str) -> None:
        """Nothing was made."""

    def transport(self, address: IPv4Address, forwards: Mapping[int, int]) -> Transport:
        """Connect to the loopback ports that forward to the agent's."""
        return TcpTransport("127.0.0.1", ports=dict(forwards))


@dataclass(frozen=True, slots=True)
class Networks:
    """The ways to connect that this host has: `new` is the kind for new machines, and the reason why it is that one.

    Machines that an earlier daemon left keep the kind they have, whatever the settings say now. `bridges` is None where
    there can be none.
    """

    new: str
    reason: str
    settings: QemuSettings
    bridges: BridgeNetworks | None

    def of(self, kind: str, owner: str) -> MachineNetwork:
        """Return the network of that kind for an owner's machines, else that of new machines."""
        if self.bridges is not None and (kind or self.new) == BridgedNetwork.kind:
            return BridgedNetwork(self.bridges.of(owner), self.settings.dns)
        return UserModeNetwork(self.settings)

    async def sweep(self, keep: set[str]) -> list[str]:
        """Remove the connections of all sandboxes but those in `keep`; return the ids they belonged to."""
        return [] if self.bridges is None else await anyio.to_thread.run_sync(self.bridges.sweep, keep)

    async def aclose(self) -> None:
        """Remove what no machine needs any more. Idempotent."""
        if self.bridges is not None:
            await anyio.to_thread.run_sync(self.bridges.close)


def choose_networks(settings: QemuSettings) -> Networks:
    """Find out what the settings want and the host allows. Blocks.

    Raises `MissingDependency` (code `bridge-impossible`) if a bridge is wanted and cannot be had.
    """
    ability = bridge_ability()
    if not ability.able:
        if settings.network == "bridge":
            raise MissingDependency(
                f"the settings want a bridge, but {ability.reason}",
                hint="set network to auto",
                code="bridge-impossible",
            )
        return Networks(UserModeNetwork.kind, ability.reason, settings, None)
    bridges = BridgeNetworks(
        instance_of(settings.state_dir),
        settings.state_dir,
        subnet=settings.subnet,
        bridge_name=settings.bridge_name,
    )
    if settings.network == "user":
        return Networks(UserModeNetwork.kind, "set in the settings", settings, bridges)
    return Networks(BridgedNetwork.kind, ability.reason, settings, bridges)


def forwarded_ports(table: str) -> dict[int, int]:
    """Return guest port → loopback port from what the monitor's `info usernet` prints.

    Raises `EngineFailure` (code `forward-missing`) unless all of the agent's ports are there.
    """
    found = {
        int(guest): int(host)
        for host, guest in re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", table)
    }
    if not set(AGENT_PORTS) <= found.keys():
        raise EngineFailure(f"qemu does not forward the agent's ports: {table.strip()!r}", code="forward-missing")
    return found
