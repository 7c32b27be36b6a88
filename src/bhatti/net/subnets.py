"""Finding a subnet that nobody on this host uses."""

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Network

from bhatti.errors import LimitExceeded

RANGE = IPv4Network("10.83.0.0/16")
"""Where subnets are looked for. Private (RFC 1918), and away from what docker, libvirt and home routers take."""

PREFIX_LENGTH = 24
"""253 guests per bridge, as the reference system has."""


def choose_subnet(instance: str, used: Iterable[IPv4Network]) -> IPv4Network:
    """Return a subnet of `RANGE` that overlaps with none of `used`.

    The search begins at a place that derives from `instance`, so that two daemons that choose at the same moment
    hardly ever choose the same. Raises `LimitExceeded` (code `subnets-exhausted`).
    """
    taken = list(used)
    subnets = list(RANGE.subnets(new_prefix=PREFIX_LENGTH))
    start = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:4], "big") % len(subnets)
    for subnet in subnets[start:] + subnets[:start]:
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise LimitExceeded(
        f"no free /{PREFIX_LENGTH} is left in {RANGE}", hint="set `subnet` in the settings", code="subnets-exhausted"
    )
