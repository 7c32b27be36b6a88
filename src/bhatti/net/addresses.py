"""Which guest has which address."""

import threading
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from bhatti.errors import Conflict, LimitExceeded


class AddressPool:
    """The addresses of one subnet: the first is the gateway's, the rest are for guests, lowest free first.

    Safe to use from several threads at once.
    """

    def __init__(self, subnet: IPv4Network) -> None:
        if subnet.prefixlen > 30:
            raise ValueError(f"{subnet} has no room for a gateway and a guest")
        self.subnet = subnet
        self._used: set[int] = set()
        self._lock = threading.Lock()

    @property
    def gateway(self) -> IPv4Interface:
        """The host's own address in the subnet."""
        return IPv4Interface((self.subnet.network_address + 1, self.subnet.prefixlen))

    @property
    def size(self) -> int:
        """How many guests there is room for."""
        return self.subnet.num_addresses - 3  # network, gateway, broadcast

    def allocate(self) -> IPv4Address:
        """Return the lowest free address. Raises `LimitExceeded` (code `addresses-exhausted`)."""
        with self._lock:
            for offset in range(2, 2 + self.size):
                if offset not in self._used:
                    self._used.add(offset)
                    return self.subnet.network_address + offset
        raise LimitExceeded(
            f"all {self.size} addresses of {self.subnet} are in use",
            hint="destroy a sandbox, or set a larger subnet",
            code="addresses-exhausted",
        )

    def mark(self, address: IPv4Address) -> None:
        """Note that an address found at start is in use.

        Raises `Conflict` (code `address-outside`) if the subnet has no such guest address, and `Conflict` (code
        `address-taken`) if another guest has it.
        """
        offset = int(address) - int(self.subnet.network_address)
        if not 2 <= offset < 2 + self.size:
            raise Conflict(
                f"{address} is no guest's address in {self.subnet}",
                hint="let the daemon choose, or stay inside of that network",
                code="address-outside",
            )
        with self._lock:
            if offset in self._used:
                raise Conflict(
                    f"{address} is in use by another sandbox",
                    hint="let the daemon choose, or free it by removing that sandbox",
                    code="address-taken",
                )
            self._used.add(offset)

    def release(self, address: IPv4Address) -> None:
        """Give an address back. Harmless for one that is free or not of this subnet."""
        with self._lock:
            self._used.discard(int(address) - int(self.subnet.network_address))

    def in_use(self) -> list[IPv4Address]:
        """Return the addresses that guests have, in order."""
        with self._lock:
            return [self.subnet.network_address + offset for offset in sorted(self._used)]


def hardware_address(address: IPv4Address) -> str:
    """Return the MAC of the guest that has `address`.

    It derives from the address alone, so an address that is used again comes with the same MAC and no neighbour's
    table is ever stale. The first byte says "locally administered, unicast".
    """
    return ":".join(f"{byte:02x}" for byte in (0x06, 0xB4, *address.packed))
