"""Where the daemon is, and the key to it.

`BHATTI_URL` and `BHATTI_API_KEY`, or what `bhatti setup` wrote down, or the socket of this user's daemon.
"""

import os
from collections.abc import Mapping

from bhatti import paths

DEFAULT_PORT = 8080


class Endpoint:
    """An address to connect to: `path` of a unix socket, or `host` and `port`; `key` is shown with every request."""

    __slots__ = ("host", "key", "path", "port")

    def __init__(self, *, path: str = "", host: str = "", port: int = 0, key: str = "") -> None:
        self.path = path
        self.host = host
        self.port = port
        self.key = key

    def __str__(self) -> str:
        """Return the address as `BHATTI_URL` would have it."""
        return f"unix://{self.path}" if self.path else f"http://{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What the Host header says; a unix socket has no name."""
        return "bhatti" if self.path else f"{self.host}:{self.port}"


def find(env: Mapping[str, str] = os.environ, url: str | None = None, key: str | None = None) -> Endpoint:
    """Return where the daemon is: by `url`, else by `BHATTI_URL`, else by the file of `bhatti setup`, else this user's
    socket. The key is `key`, else `BHATTI_API_KEY`, else that of the file if its address is the one.

    Who says by `BHATTI_STATE_DIR` or `BHATTI_RUNTIME_DIR` which daemon is meant, means one of this machine, whatever
    the file says. Raises `InvalidRequest`: `bad-url` for what is neither `unix:///path` nor `http://host:port`,
    `bad-key` for what cannot be one, `bad-config` for a file that cannot be understood, or that others can read.
    """
    given = url or env.get("BHATTI_URL") or ""
    key = key or env.get("BHATTI_API_KEY") or ""
    if not given and (env.get("BHATTI_STATE_DIR") or env.get("BHATTI_RUNTIME_DIR")):
        return parsed(f"unix://{paths.socket_path(env)}", key)
    path = paths.client_config_path(env)
    if (not given or not key) and os.path.exists(path):  # noqa: PTH110 - pathlib costs 10 ms of import
        from bhatti.sdk.config import read  # only who has a file pays for a parser

        written = read(path)
        given = given or written.url
        if given == written.url:
            key = key or written.api_key
    return parsed(given or f"unix://{paths.socket_path(env)}", key)


def parsed(url: str, key: str = "") -> Endpoint:
    """Return the endpoint that a URL names; raises `InvalidRequest` (code `bad-url` or `bad-key`)."""
    if not key.isprintable() or " " in key:
        from bhatti.errors import InvalidRequest

        raise InvalidRequest("the API key holds a space or a line break", hint="a key begins with bht_", code="bad-key")
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return Endpoint(path=rest, key=key)
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host and port:
        host, port = port, str(DEFAULT_PORT)
    if scheme == "http" and separator and host and port.isdigit():
        return Endpoint(host=host.strip("[]"), port=int(port), key=key)
    from bhatti.errors import InvalidRequest

    raise InvalidRequest(
        f"{url!r} is not the address of a daemon",
        hint="use unix:///path/to/bhatti.sock or http://host:port",
        code="bad-url",
    )


def escaped(ref: str) -> str:
    """Return a name or id as a part of a path. Names need no escaping; for typing errors the library is imported."""
    if ref.isascii() and ref.replace("-", "a").replace("_", "a").isalnum():
        return ref
    from urllib.parse import quote

    return quote(ref, safe="").replace(".", "%2E") if set(ref) <= {"."} else quote(ref, safe="")
