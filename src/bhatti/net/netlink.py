"""The few questions and orders we have for rtnetlink, with typed errors. pyroute2 is imported late: it costs 0.2 s."""

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from bhatti.errors import BhattiError, EngineFailure, MissingDependency

Route = Any
"""An open pyroute2.IPRoute; pyroute2 has no types that mypy could check."""

MAIN_TABLE = 254
"""The routing table that `ip route` shows: linux/rtnetlink.h, RT_TABLE_MAIN."""


@contextmanager
def rtnetlink(doing: str) -> Iterator[Route]:
    """Open rtnetlink for one piece of work; `doing` names it in errors.

    Raises `EngineFailure` (code `network-failure`) when the kernel refuses, `MissingDependency` without pyroute2.
    """
    try:
        pyroute2 = importlib.import_module("pyroute2")
    except ImportError as error:
        raise MissingDependency("pyroute2 is not installed", hint="pip install 'bhatti[server]'") from error
    try:
        with pyroute2.IPRoute() as route:
            yield route
    except pyroute2.NetlinkError as error:
        raise network_failure(doing, error.code) from error


@contextmanager
def tolerate(*numbers: int) -> Iterator[None]:
    """Let the kernel's refusals with these errnos pass: what was wanted is the case already."""
    try:
        yield
    except Exception as error:
        if getattr(error, "code", None) not in numbers:
            raise


def network_failure(doing: str, number: int) -> BhattiError:
    """Return the error for an errno of the kernel's network side."""
    hint = "run the daemon as root, or use network = 'user'" if number in (errno.EPERM, errno.EACCES) else None
    reason = errno.errorcode.get(number, str(number))
    return EngineFailure(f"cannot {doing}: {reason}", hint=hint, code="network-failure")


def find_link(route: Route, name: str) -> int | None:
    """Return the index of the interface `name`, or None."""
    found: list[int] = route.link_lookup(ifname=name)
    return found[0] if found else None


def delete_link(name: str) -> bool:
    """Delete an interface; return whether there was one."""
    with rtnetlink(f"delete the interface {name}") as route:
        index = find_link(route, name)
        if index is None:
            return False
        with tolerate(errno.ENODEV):
            route.link("del", index=index)
        return True


def used_networks(*, besides: str | None = None) -> list[IPv4Network]:
    """Return the IPv4 networks that addresses and routes of this host already use, default routes left out.

    `besides` names an interface whose own networks do not count.
    """
    networks = []
    with rtnetlink("read addresses and routes") as route:
        skip = find_link(route, besides) if besides is not None else None
        for address in route.get_addr(family=2):
            if address["index"] != skip:
                text = f"{address.get('address')}/{address['prefixlen']}"
                networks.append(IPv4Interface(text).network)
        for entry in route.get_routes(family=2, table=MAIN_TABLE):
            destination = entry.get("dst")
            if destination and entry["dst_len"] and entry.get("oif") != skip:
                networks.append(IPv4Network(f"{destination}/{entry['dst_len']}", strict=False))
    return networks
