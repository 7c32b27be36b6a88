"""The bridge network of one owner: a machine is plugged in, a machine is unplugged, nothing is left behind.

The bridge, the nft table and IP forwarding come into being with the first machine; when they go is for `networks` to
say. The subnet is chosen once and written down, because stopped machines keep their addresses.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bhatti.durable import write_durably
from bhatti.errors import Conflict, CorruptData
from bhatti.net import addresses, bridge, firewall, instance, netlink, quarantine, subnets, tap

CHOICE_LOCK = Path("/run/bhatti-network.lock")
"""Held while a subnet is chosen and taken, so that two daemons do not take the same one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a machine's network card needs to know."""

    tap: str
    address: IPv4Address
    mac: str
    gateway: IPv4Address
    prefix_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the networks of one instance share.

    `mac` is that of the host on each bridge and each tap in quarantine, so that a guest that wakes up elsewhere than
    it fell asleep still knows it; `lock` is held while anything changes; `subnets` returns those of the other networks;
    `enforce` puts the rules of all networks in force; `deserted` is told of a network whose last machine has gone.
    """

    instance: str
    mac: str
    lock: threading.RLock
    subnets: "Callable[[BridgeNetwork], list[IPv4Network]]"
    enforce: Callable[[], None]
    deserted: "Callable[[BridgeNetwork], None]"


class BridgeNetwork:
    """One bridge with its taps and addresses. Every method blocks; all are safe to call from several threads.

    `record` is the file that keeps the choice of subnet; `subnet` overrides what would be chosen.
    """

    def __init__(self, name: str, record: Path, ground: Ground, *, subnet: IPv4Network | None = None) -> None:
        self.bridge = name
        self._record = record
        self._ground = ground
        self._instance = ground.instance
        self._wanted = subnet
        self._pool: addresses.AddressPool | None = None
        self._leases: dict[str, Lease] = {}
        self._up = False
        self._lock = ground.lock

    @property
    def pool(self) -> addresses.AddressPool:
        """The addresses of the subnet, which is chosen when they are first asked for."""
        with self._lock:
            if self._pool is None:
                with _exclusively():
                    self._pool = addresses.AddressPool(self._settle_subnet())
            return self._pool

    @property
    def subnet(self) -> IPv4Network | None:
        """The subnet, if it has been chosen. Raises `CorruptData` if it cannot be read."""
        return self._pool.subnet if self._pool is not None else self._wanted or self._read_subnet()

    @property
    def empty(self) -> bool:
        """Whether no machine has an address here."""
        return not self._leases

    def has(self, sandbox_id: str) -> bool:
        """Return whether a sandbox has an address here."""
        return sandbox_id in self._leases

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
                tap.create_tap(self._instance, sandbox_id)
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
                name = tap.create_tap(self._instance, sandbox_id)
                guests = {woken_as: addresses.hardware_address(woken_as)}
                if found is not None:
                    guests[found.address] = found.mac
                quarantine.enter(name, self._ground.mac, guests)
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
        tap.delete_tap(self._instance, sandbox_id)
        with self._lock:
            lease = self._leases.pop(sandbox_id, None)
            if lease is not None:
                bridge.delete_neighbour(self.bridge, lease.address)
                self.pool.release(lease.address)
            if not self._leases:
                self._ground.deserted(self)

    def down(self) -> None:
        """Remove the bridge, which has no ports any more. Idempotent; a later `attach` makes it again."""
        with self._lock:
            bridge.remove_bridge(self.bridge)
            self._up = False

    def forget_subnet(self) -> None:
        """Give the subnet back: nobody has an address in it. A later `attach` chooses one again."""
        with self._lock:
            self._pool = None
            self._record.unlink(missing_ok=True)

    def _lease(self, sandbox_id: str, address: IPv4Address | None) -> Lease:
        pool = self.pool
        if address is None:
            address = pool.allocate()
        else:
            pool.mark(address)
        lease = Lease(
            tap=instance.tap_name(self._instance, sandbox_id),
            address=address,
            mac=addresses.hardware_address(address),
            gateway=pool.gateway.ip,
            prefix_length=pool.subnet.prefixlen,
        )
        self._leases[sandbox_id] = lease
        return lease

    def _ensure_up(self) -> None:
        """Set up bridge, forwarding and table, once per life; all of it is idempotent."""
        if self._up and bridge.bridge_exists(self.bridge):
            return
        firewall.enable_forwarding()
        self._make_bridge(self.pool)
        self._ground.enforce()
        self._up = True

    def _settle_subnet(self) -> IPv4Network:
        """Return the subnet: the one wanted, else the one written down while it is still good, else a free one."""
        used = netlink.used_networks(besides=self.bridge) + self._ground.subnets(self)
        subnet = self._wanted or self._read_subnet()
        if subnet is not None and any(subnet.overlaps(other) for other in used):
            if self._wanted is not None or bridge.ports_of(self.bridge):
                raise Conflict(
                    f"the subnet {subnet} is used by something else on this host",
                    hint="set `subnet` to a free one; `ip route` shows what is used",
                    code="subnet-taken",
                )
            subnet = None
        if subnet is None:
            subnet = subnets.choose_subnet(self._instance, used)
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._record, f"{subnet}\n".encode())
        # Taking it means having it on the bridge; before that, another daemon could still choose it.
        self._make_bridge(addresses.AddressPool(subnet))
        return subnet

    def _make_bridge(self, pool: addresses.AddressPool) -> None:
        alias = instance.bridge_alias(self._instance)
        bridge.ensure_bridge(self.bridge, pool.gateway, mac=self._ground.mac, alias=alias)

    def _read_subnet(self) -> IPv4Network | None:
        record = self._record
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
