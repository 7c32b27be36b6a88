"""What the gateway lets strangers have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the gateway, and how it finds sites and believes what it is told.

    `max_waiting` may wait for one sandbox to wake, `max_open` be served at once by all. With `trust_forwarded`, what a
    request says in `X-Forwarded-*` is passed on: only behind a proxy that says it anew.
    """

    domain: str = ""
    trust_forwarded: bool = False
    max_waiting: int = 1024
    max_open: int = 4096
    max_header_bytes: int = 64 << 10
    max_body_bytes: int = 64 << 20
    wake_timeout_s: float = 60.0
    idle_timeout_s: float = 300.0
