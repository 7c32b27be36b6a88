"""The ports on which a guest listens, as its kernel lists them: no program in the guest is needed for it."""

import contextlib
import ipaddress
import struct
from collections.abc import Iterator

from bhatti.errors import GuestFailure
from bhatti.guestlink.client import GuestLink
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
"""proc(5); the second is missing where the kernel has no IPv6."""

LISTEN = "0A"
"""TCP_LISTEN of the kernel's include/net/tcp_states.h, as the tables spell it."""

AGENT = frozenset({CONTROL_PORT, FORWARD_PORT})
"""The agent's own, where it is reached over a network; nobody else can use them."""

MAX_TABLE_BYTES = 4 << 20
"""Some 25,000 connections; listening sockets come first."""


async def listening(link: GuestLink) -> dict[int, list[str]]:
    """Return the ports on which somebody listens in the guest, in order, each with its addresses. Safe to cancel."""
    found: dict[int, set[str]] = {}
    for table in TABLES:
        with contextlib.suppress(GuestFailure):
            text = (await link.read_file(table, max_bytes=MAX_TABLE_BYTES)).decode("ascii", "replace")
            for address, port in parsed(text):
                found.setdefault(port, set()).add(address)
    return {port: sorted(found[port]) for port in sorted(found) if port not in AGENT}


def parsed(table: str) -> Iterator[tuple[str, int]]:
    """Yield address and port of each listening socket in one of the tables; lines that make no sense are left out."""
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[3] != LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        with contextlib.suppress(ValueError, struct.error):
            yield _address(bytes.fromhex(address)), int(port, 16)


def _address(raw: bytes) -> str:
    """Return an address that the kernel printed as words of the processor, which is little-endian wherever we run."""
    words = struct.unpack(f"<{len(raw) // 4}I", raw)
    return str(ipaddress.ip_address(struct.pack(f">{len(words)}I", *words)))
