"""How long the host waits for a guest, each value with its reason; every call of the link is bounded by some."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Times in seconds.

    A guest that was paused, has crashed or is starved of CPU looks the same from outside: it is silent. What may be
    silent for long on purpose (a command, a terminal, a watch) is not bounded by a time but by proof of life: after
    `probe_after_s` of silence the agent is asked for its activity on another connection.
    """

    connect_s: float = 5.0
    """A connection and its handshake: under a millisecond on the same machine, and one lost SYN costs a second."""

    reply_s: float = 15.0
    """A request that the agent answers from memory or with a few system calls: milliseconds, with a slow disk more."""

    stall_s: float = 60.0
    """A transfer in which nothing moves any more. Between two pieces lies at most a sync of what was written."""

    sync_s: float = 120.0
    """Flushing file systems: as long as the guest's disk takes to swallow the guest's memory."""

    probe_after_s: float = 20.0
    """Silence of a command or terminal before the agent is asked whether it lives."""

    probe_reply_s: float = 10.0
    """The answer to that; it is asked twice, as the first answer may be lost with a stale connection."""

    kill_grace_s: float = 5.0
    """From a command's own timeout, or KILL, to its EXIT; the agent needs 250 ms for what still holds its pipes."""


DEADLINES = Deadlines()
"""The times as they are unless somebody passes others."""
