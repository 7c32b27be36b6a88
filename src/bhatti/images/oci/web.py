"""Ask web servers for things: over TLS unless plain HTTP was allowed, through redirects, with one kind of failure.

One connection for each request: a pull has a handful of them, and each is long.
"""

import http.client
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bhatti.errors import InvalidRequest, Unavailable
from bhatti.images.oci.reference import is_loopback

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
TIMEOUT_S = 30.0
"""Of silence: a server that says nothing for so long is taken for dead."""

READ_BYTES = 256 << 10


class Transient(Unavailable):
    """May go well when it is tried again; `retry_after_s` is what the server asks for, 0 if it does not say."""

    def __init__(
        self, message: str, *, hint: str | None = None, code: str = "registry-unreachable", retry_after_s: float = 0
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class Answer:
    """A response whose body has not been read. `url` is where it came from in the end."""

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self.url = url
        self._response = response

    def read_some(self) -> bytes:
        """Return what has come of the body, nothing at its end. Raises `Transient` when it is cut off."""
        with failures(self.url):
            data = self._response.read1(READ_BYTES)
        if not data and self._response.length:
            raise Transient(f"{host_of(self.url)} closed the connection {self._response.length} bytes too early")
        return data

    def read_all(self, max_bytes: int) -> bytes:
        """Return the whole body, or its first `max_bytes` + 1 bytes if it is longer."""
        parts = []
        left = max_bytes + 1
        while left > 0 and (data := self.read_some()):
            parts.append(data[:left])
            left -= len(data)
        return b"".join(parts)


class Web:
    """Sends requests. Safe to use from several threads."""

    def __init__(self, *, plain: bool, loopback: bool, timeout_s: float = TIMEOUT_S) -> None:
        """Allow plain HTTP everywhere (`plain`) or to this machine (`loopback`); otherwise it is refused."""
        self._plain = plain
        self._loopback = loopback
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    @contextmanager
    def request(
        self, url: str, headers: Mapping[str, str] = {}, *, method: str = "GET", body: bytes | None = None
    ) -> Iterator[Answer]:
        """Yield the answer; leaving closes the connection.

        Redirects are followed, without the Authorization header once they lead to another server. Raises `Transient`,
        `Unavailable` (code `registry-untrusted`: its certificate), `InvalidRequest` (code `insecure-registry`).
        """
        sent = {"User-Agent": "bhatti", "Accept-Encoding": "identity", **headers}
        for _ in range(MAX_REDIRECTS + 1):
            self.check(url)
            connection, target = self._connect(url)
            try:
                with failures(url):
                    connection.request(method, target, body, sent)
                    response = connection.getresponse()
                location = response.headers.get("Location") if response.status in REDIRECTS else None
                if location is None or method != "GET":
                    yield Answer(response, url)
                    return
            finally:
                connection.close()
            there = _resolve(url, location)
            if origin(there) != origin(url):
                sent.pop("Authorization", None)
            url = there
        raise Unavailable(f"{host_of(url)} redirects in circles", code="registry-failing")

    def check(self, url: str) -> None:
        """Raise `InvalidRequest` (code `insecure-registry`) if nothing may be sent there."""
        scheme, host, _ = origin(url)
        if scheme == "https" or (scheme == "http" and (self._plain or (self._loopback and is_loopback(host)))):
            return
        raise InvalidRequest(
            f"{scheme}://{host} is not encrypted: anybody on the way could read passwords and change images",
            hint="allow it with --insecure if you trust the whole way",
            code="insecure-registry",
        )

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        """Return a connection to the server, or to the proxy that the environment names, and what to ask it for."""
        scheme, host, port = origin(url)
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        proxy = urllib.request.getproxies().get(scheme)
        name, at = host.strip("[]"), port
        if proxy and not is_loopback(host) and not urllib.request.proxy_bypass(host):
            _, proxy_host, at = origin(proxy if "://" in proxy else f"http://{proxy}")
            name = proxy_host.strip("[]")
            if scheme == "http":
                return http.client.HTTPConnection(name, at, timeout=self._timeout_s), url
            connection = http.client.HTTPSConnection(name, at, timeout=self._timeout_s, context=self._tls)
            connection.set_tunnel(host, port)
            return connection, target
        if scheme == "http":
            return http.client.HTTPConnection(name, at, timeout=self._timeout_s), target
        return http.client.HTTPSConnection(name, at, timeout=self._timeout_s, context=self._tls), target


@contextmanager
def failures(url: str) -> Iterator[None]:
    """Turn what can go wrong on the way to `url` into `Transient` and `Unavailable`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"{host_of(url)} cannot prove who it is: {error.verify_message}",
            hint="install its certificate authority on this host (or name its file in SSL_CERT_FILE)",
            code="registry-untrusted",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise Transient(
            f"{host_of(url)} cannot be reached: {reason}", hint="check its name and this host's network"
        ) from error


def _resolve(base: str, location: str) -> str:
    try:
        return urllib.parse.urljoin(base, location)
    except ValueError as error:
        raise InvalidRequest(
            f"{host_of(base)} sends us to what is no URL: {error}",
            hint="the registry is not configured right; another mirror of the image may be",
        ) from error


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; raises `InvalidRequest` for what is none."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(
            f"{url[:200]!r} is no URL: {error}", hint="a registry is named as in REGISTRY/NAME:TAG"
        ) from error
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(
            f"{url[:200]!r} is no URL of a web server", hint="a registry is named as in REGISTRY/NAME:TAG"
        )
    return parts.scheme, f"[{host}]" if ":" in host else host, port or (443 if parts.scheme == "https" else 80)


def host_of(url: str) -> str:
    """Return the host of a URL, for messages: paths and queries may hold secrets."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
