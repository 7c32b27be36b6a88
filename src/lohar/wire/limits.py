"""Every limit of the wire and of the agent in one place, each with the reason for its value."""

from __future__ import annotations

from lohar.wire.fields import number
from lohar.wire.records import Record


class Limits(Record):
    """What an agent allows; HELLO's answer carries it, so that a client can know before it is refused."""

    frame_length: int = number(default=1 << 20, always=True, minimum=1, maximum=1 << 30)
    """Largest length field of a frame: type byte and payload. The reference protocol's own: peers rely on it."""

    connections: int = number(default=512, always=True, minimum=1)
    """Connections of both ports together. 200 at once is a tested load; a descriptor each, so far below any rlimit."""

    sessions: int = number(default=64, always=True, minimum=1)
    """Running sessions. Fifty with full scrollbacks is a tested load that must fit in 25 MB."""

    ring_bytes: int = number(default=64 << 10, always=True, minimum=1)
    """Output kept for each session when the request does not say otherwise: the reference's 64 KiB."""

    max_ring_bytes: int = number(default=4 << 20, always=True, minimum=1)
    """The most that a request may ask to keep: enough for a long build's log, and a few cannot eat a small guest."""

    upload_bytes: int = number(default=64 << 30, always=True, minimum=1)
    """Largest announced upload. The guest's disk is the true bound; this one refuses sizes that are surely nonsense."""

    list_entries: int = number(default=10_000, always=True, minimum=1)
    """Entries of an unchunked listing before its end is cut off and says so: the reference's figure."""

    watches: int = number(default=8192, always=True, minimum=1)
    """Directories that one recursive watch may cover: the kernel's usual default per user, and 1 KiB of it each."""

    auth_timeout_ms: int = number(default=5000, always=True, minimum=1)
    """How long an agent with a token waits for AUTH: the reference's 5 s."""

    drain_timeout_ms: int = number(default=250, always=True, minimum=1)
    """Silence after which EXIT is sent although a background child still holds the command's pipe."""

    exited_session_ms: int = number(default=60_000, always=True, minimum=1)
    """How long an exited session stays listed and can be attached to, for whoever comes late to read its end."""

    entropy_bytes: int = number(default=32, always=True, minimum=1)
    """Fresh entropy that IDENTITY and RESUMED carry at least: a full seed of the kernel's generator."""


LIMITS = Limits()
"""The limits as they are unless somebody passes others."""
