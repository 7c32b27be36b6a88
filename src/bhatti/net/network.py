"""The bridge network of one instance: a machine is plugged in, a machine is unplugged, nothing is left behind.

The bridge, the nft table and IP forwarding come into being with the first machine and go when the network is closed
without any. The subnet is chosen once and written down, because stopped machines keep their addresses.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bhatti.errors import Conflict, CorruptData
from bhatti.net import addresses, bridge, firewall, instance, netlink, quarantine, subnets, tap

CHOICE_LOCK = Path("/run/bhatti-network.lock")
"""Held while a subnet is chosen and taken, so that two daemons do not take the same one."""

SUBNET_FILE = "subnet"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a machine's network card needs to know."""

    tap: str
    address: IPv4Address
    mac: str
    gateway: IPv4Address
    prefix_length: int


class BridgeNetwork:
    """One bridge with its taps, addresses and rules. Every method blocks; all are safe to call from several threads.

    `directory` keeps the choice of subnet; `subnet` and `bridge_name` override what would be chosen.
    """

    def __init__(
        self, instance_id: str, directory: Path, *, subnet: IPv4Network | None = None, bridge_name: str | None = None
    ) -> None:
        self.instance = instance_id
        self.bridge = bridge_name or instance.bridge_name(instance_id)
        self.table = instance.table_name(instance_id)
        self._directory = directory
        self._wanted = subnet
        self._pool: addresses.AddressPool | None = None
        self._leases: dict[str, Lease] = {}
        self._up = False
        self._lock = threading.RLock()

    @property
    def pool(self) -> addresses.AddressPool:
        """The addresses of the subnet, which is chosen when they are first asked for."""
        with self._lock:
            if self._pool is None:
                with _exclusively():
                    self._pool = addresses.AddressPool(self._settle_subnet())
            return self._pool

    def attach(self, sandbox_id: str, *, address: IPv4Address | None = None) -> Lease:
        """Give a sandbox a tap on the bridge and an address: a free one, or `address` if it had one before.

        Idempotent: what is missing is made, what is there is kept. On an error nothing new is left.
        """
        with self._lock:
            lease = self._leases.get(sandbox_id)
            if lease is None:
                lease = self._lease(sandbox_id, address)
            try:
                self._ensure_up()
                tap.create_tap(self.instance, sandbox_id)
                bridge.add_port(self.bridge, lease.tap)
                bridge.set_neighbour(self.bridge, lease.address, lease.mac)
            except BaseException:
                self.detach(sandbox_id)
                raise
            return lease

    def quarantine(self, sandbox_id: str, woken_as: IPv4Address, *, lease: bool = True) -> Lease:
        """Give a sandbox a tap of its own, on no bridge, whose guest wakes up with the address `woken_as`.

        With `lease` an address is kept for it, to be told to the guest before `admit`; without, the lease says what
        the guest has. Idempotent; on an error nothing new is left.
        """
        with self._lock:
            found = self._leases.get(sandbox_id) or (self._lease(sandbox_id, None) if lease else None)
            try:
                self._ensure_up()
                name = tap.create_tap(self.instance, sandbox_id)
                guests = {woken_as: addresses.hardware_address(woken_as)}
                if found is not None:
                    guests[found.address] = found.mac
                quarantine.enter(name, bridge.hardware_address(self.bridge), guests)
            except BaseException:
                self.detach(sandbox_id)
                raise
            return found or Lease(
                tap=name,
                address=woken_as,
                mac=guests[woken_as],
                gateway=quarantine.HOST.ip,
                prefix_length=quarantine.HOST.network.prefixlen,
            )

    def admit(self, sandbox_id: str) -> None:
        """Plug the tap of a quarantined sandbox into the bridge: its guest has the leased address now."""
        with self._lock:
            lease = self._leases[sandbox_id]
            quarantine.leave(lease.tap)
            bridge.add_port(self.bridge, lease.tap)
            bridge.set_neighbour(self.bridge, lease.address, lease.mac)

    def detach(self, sandbox_id: str) -> None:
        """Take tap and address from a sandbox. Nothing happens if it has none."""
        tap.delete_tap(self.instance, sandbox_id)
        with self._lock:
            lease = self._leases.pop(sandbox_id, None)
            if lease is not None:
                bridge.delete_neighbour(self.bridge, lease.address)
                self.pool.release(lease.address)

    def sweep(self, keep: set[str]) -> list[str]:
        """Delete the taps of this instance whose sandbox is not in `keep`; return the ids they belonged to."""
        gone = sorted(set(tap.taps_of(self.instance).values()) - keep)
        for sandbox_id in gone:
            self.detach(sandbox_id)
        return gone

    def close(self) -> None:
        """Remove bridge and table if no tap of this instance is left. Idempotent; a later `attach` makes them again."""
        with self._lock:
            if tap.taps_of(self.instance):
                return
            if firewall.table_exists(self.table):
                firewall.remove_table(self.table)
            bridge.remove_bridge(self.bridge)
            self._up = False

    def _lease(self, sandbox_id: str, address: IPv4Address | None) -> Lease:
        pool = self.pool
        if address is None:
            address = pool.allocate()
        else:
            pool.mark(address)
        lease = Lease(
            tap=instance.tap_name(self.instance, sandbox_id),
            address=address,
            mac=addresses.hardware_address(address),
            gateway=pool.gateway.ip,
            prefix_length=pool.subnet.prefixlen,
        )
        self._leases[sandbox_id] = lease
        return lease

    def _ensure_up(self) -> None:
        """Set up bridge, forwarding and table, once per life; all of it is idempotent."""
        if self._up and bridge.ports_of(self.bridge):
            return
        firewall.enable_forwarding()
        bridge.ensure_bridge(self.bridge, self.pool.gateway)
        firewall.replace_table(self.table, [firewall.GuestNetwork(self.bridge, self.pool.subnet)])
        self._up = True

    def _settle_subnet(self) -> IPv4Network:
        """Return the subnet: the one wanted, else the one written down while it is still good, else a free one."""
        used = netlink.used_networks(besides=self.bridge)
        record = self._directory / SUBNET_FILE
        subnet = self._wanted or self._read_subnet(record)
        if subnet is not None and any(subnet.overlaps(other) for other in used):
            if self._wanted is not None or tap.taps_of(self.instance):
                raise Conflict(
                    f"the subnet {subnet} is used by something else on this host",
                    hint="set `subnet` to a free one; `ip route` shows what is used",
                    code="subnet-taken",
                )
            subnet = None
        if subnet is None:
            subnet = subnets.choose_subnet(self.instance, used)
        self._directory.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{subnet}\n")
        # Taking it means having it on the bridge; before that, another daemon could still choose it.
        bridge.ensure_bridge(self.bridge, addresses.AddressPool(subnet).gateway)
        return subnet

    def _read_subnet(self, record: Path) -> IPv4Network | None:
        try:
            return IPv4Network(record.read_text().strip())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptData(
                f"{record} holds no subnet: {error}", hint="remove the file; a subnet will be chosen again"
            ) from error


@contextmanager
def _exclusively() -> Iterator[None]:
    """Hold the host-wide lock of subnet choice."""
    file = os.open(CHOICE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
