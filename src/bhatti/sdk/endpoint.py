"""Where the daemon is: `BHATTI_URL`, or the socket of this user's daemon."""

import os
from collections.abc import Mapping

from bhatti import paths

DEFAULT_PORT = 8080


class Endpoint:
    """An address to connect to: `path` of a unix socket, or `host` and `port`."""

    __slots__ = ("host", "path", "port")

    def __init__(self, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.path = path
        self.host = host
        self.port = port

    def __str__(self) -> str:
        """Return the address as `BHATTI_URL` would have it."""
        return f"unix://{self.path}" if self.path else f"http://{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What the Host header says; a unix socket has no name."""
        return "bhatti" if self.path else f"{self.host}:{self.port}"


def find(env: Mapping[str, str] = os.environ, url: str | None = None) -> Endpoint:
    """Return where the daemon is, by `url`, else by `BHATTI_URL`, else this user's socket.

    Raises `InvalidRequest` (code `bad-url`) for what is neither `unix:///path` nor `http://host:port`.
    """
    given = url or env.get("BHATTI_URL") or ""
    if not given:
        return Endpoint(path=paths.socket_path(env))
    scheme, separator, rest = given.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return Endpoint(path=rest)
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host and port:
        host, port = port, str(DEFAULT_PORT)
    if scheme == "http" and separator and host and port.isdigit():
        return Endpoint(host=host.strip("[]"), port=int(port))
    from bhatti.errors import InvalidRequest

    raise InvalidRequest(
        f"{given!r} is not the address of a daemon",
        hint="use unix:///path/to/bhatti.sock or http://host:port",
        code="bad-url",
    )


def escaped(ref: str) -> str:
    """Return a name or id as a part of a path. Names need no escaping; for typing errors the library is imported."""
    if ref.isascii() and ref.replace("-", "a").replace("_", "a").isalnum():
        return ref
    from urllib.parse import quote

    return quote(ref, safe="").replace(".", "%2E") if set(ref) <= {"."} else quote(ref, safe="")
