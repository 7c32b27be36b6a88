"""The bridges of one instance: one for each owner of machines, who reach their own machines and nobody else's.

Theory of operation. An owner's bridge comes with their first machine and goes with their last, asleep ones included;
the administrator's, whose owner is '', stays for as long as there is any machine. One nft table has the rules of all
of them, so that none is ever up without the rules that part it from the others. Subnets are written down for as long
as there are machines that have addresses in them.
"""

import contextlib
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from bhatti.errors import CorruptData
from bhatti.net import bridge, firewall, instance, tap
from bhatti.net.network import BridgeNetwork, Ground

SUBNET_FILE = "subnet"
"""The administrator's subnet, in the state directory; the others' are below `SUBNETS_DIRECTORY`, by owner."""

SUBNETS_DIRECTORY = "subnets"


class BridgeNetworks:
    """All networks of an instance. Every method blocks; all are safe to call from several threads.

    `directory` keeps the choice of subnets; `subnet` and `bridge_name` override what would be chosen for the
    administrator.
    """

    def __init__(
        self, instance_id: str, directory: Path, *, subnet: IPv4Network | None = None, bridge_name: str | None = None
    ) -> None:
        self.instance = instance_id
        self.table = instance.table_name(instance_id)
        self._directory = directory
        self._wanted = subnet
        self._bridge = bridge_name or instance.bridge_name(instance_id)
        self._by_owner: dict[str, BridgeNetwork] = {}
        self._swept = False
        self._lock = threading.RLock()
        for record in (directory / SUBNETS_DIRECTORY).glob("*"):
            self.of(record.name)

    def of(self, owner: str = "") -> BridgeNetwork:
        """Return the network of an owner's machines; nothing is made by that. `owner` can be a file name."""
        with self._lock:
            found = self._by_owner.get(owner)
            if found is None:
                record = self._directory / SUBNETS_DIRECTORY / owner if owner else self._directory / SUBNET_FILE
                found = self._by_owner[owner] = BridgeNetwork(
                    self._bridge if not owner else instance.bridge_name(self.instance, owner),
                    record,
                    Ground(
                        instance=self.instance,
                        mac=bridge.hardware_address(self._bridge),
                        lock=self._lock,
                        subnets=self._subnets,
                        enforce=self._enforce,
                        deserted=self._remove_deserted,
                    ),
                    subnet=None if owner else self._wanted,
                )
            return found

    def sweep(self, keep: set[str]) -> list[str]:
        """Delete the taps whose sandbox is not in `keep`, and bridges that nobody needs; return the sandboxes' ids.

        Until it has been called no bridge goes: there may be machines on it that nobody has told us of yet.
        """
        with self._lock:
            gone = sorted(set(tap.taps_of(self.instance).values()) - keep)
            for sandbox_id in gone:
                holders = [network for network in self._by_owner.values() if network.has(sandbox_id)]
                (holders[0] if holders else self.of()).detach(sandbox_id)
            self._swept = True
            for network in list(self._by_owner.values()):
                self._remove_deserted(network)
            known = {network.bridge for network in self._by_owner.values()}
            for name in set(bridge.bridges_called(instance.bridge_alias(self.instance))) - known:
                if not bridge.ports_of(name):
                    bridge.remove_bridge(name)
        return gone

    def close(self) -> None:
        """Remove bridges and table if no tap of this instance is left. Idempotent; they are made again if needed."""
        with self._lock:
            if tap.taps_of(self.instance):
                return
            if firewall.table_exists(self.table):
                firewall.remove_table(self.table)
            for network in list(self._by_owner.values()):
                network.down()

    def _subnets(self, besides: BridgeNetwork) -> list[IPv4Network]:
        """Return the subnets of the other networks, whether they are up or not."""
        found = []
        for network in self._by_owner.values():
            if network is not besides:
                with contextlib.suppress(CorruptData):  # whose machines are told about it
                    found += [subnet for subnet in [network.subnet] if subnet is not None]
        return found

    def _enforce(self) -> None:
        """Put the rules of all networks in force; rules of a bridge that is not up yet wait for it."""
        firewall.replace_table(self.table, list(self._guest_networks()))

    def _guest_networks(self) -> Iterator[firewall.GuestNetwork]:
        for network in self._by_owner.values():
            with contextlib.suppress(CorruptData):
                if (subnet := network.subnet) is not None:
                    yield firewall.GuestNetwork(network.bridge, subnet)

    def _remove_deserted(self, network: BridgeNetwork) -> None:
        """Remove the bridge, the rules and the subnet of an owner who has no machine any more."""
        if network is self.of() or not self._swept or not network.empty or bridge.ports_of(network.bridge):
            return
        network.down()
        network.forget_subnet()
        if firewall.table_exists(self.table):
            self._enforce()
