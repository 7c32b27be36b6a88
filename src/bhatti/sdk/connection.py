"""A connection to the daemon: `bhatti.http1` over a socket of the standard library.

Imports little on purpose: `bhatti exec` is a process that lives for some tens of milliseconds, and most of that is
what it imports. Errors are imported when there is one.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Iterator

from bhatti.http1 import Head, ProtocolViolation, ResponseParser, chunk, request_head
from bhatti.sdk.endpoint import Endpoint

CONNECT_TIMEOUT_S = 10.0
"""Expected: at once on this machine, some round trips elsewhere."""

KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A machine or network that is gone without a word is noticed after a minute: terminals wait for as long as one likes.
See tcp(7)."""

IDLE_S = 60.0
"""How long a kept connection is used again: for less time than the daemon keeps it, or a request with a body could meet
its end, and nobody would know whether it was heard."""

RECEIVE_BYTES = 256 << 10

Body = bytes | Iterable[bytes] | None


class Kept:
    """What a connection is between requests, however it waits for its socket: open or not, and to where."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._socket: socket.socket | None = None
        self._idle_since = 0.0

    def close(self) -> None:
        """Close the connection; another request opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def finished(self, parser: ResponseParser) -> None:
        """Take note that an answer has been read to its end."""
        self._idle_since = time.monotonic()
        if not parser.keep_alive:
            self.close()

    def close_stale(self) -> None:
        """Close a connection that was idle for long, or says something: that the daemon has closed it, unasked."""
        if self._socket is not None and (time.monotonic() - self._idle_since > IDLE_S or has_news(self._socket)):
            self.close()

    def handed_over(self, parser: ResponseParser) -> tuple[socket.socket, bytes]:
        """Give the socket away, which speaks another protocol now, with the bytes that came already."""
        assert self._socket is not None
        taken, self._socket = self._socket, None
        return taken, parser.rest


class Response:
    """An answer: its head, and its body as it comes. Read it to the end before the next request."""

    def __init__(self, connection: "Connection", parser: ResponseParser, first: list[bytes]) -> None:
        assert parser.head is not None
        self.head: Head = parser.head
        self._connection = connection
        self._parser = parser
        self._first = first

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces as they come; raises `Unavailable` if it breaks off."""
        yield from self._first
        self._first = []
        while not self._parser.done:
            yield from self._connection.receive_into(self._parser)
        self._connection.finished(self._parser)

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.pieces())


class Connection(Kept):
    """One connection, kept open between requests and opened again when the daemon has closed it meanwhile."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float | None = None) -> None:
        super().__init__(endpoint)
        self._timeout_s = timeout_s
        self._aborted = False

    def request(
        self, method: str, target: str, *, headers: Iterable[tuple[str, str]] = (), body: Body = None
    ) -> Response:
        """Send a request and return the answer, once its head is here.

        A body of bytes is sent whole; an iterable in chunks. Raises `Unavailable` (code `daemon-not-running`, or
        `connection-lost` if the daemon goes away in the middle). A request that a kept connection swallowed unheard
        is sent again only if it has no body.
        """
        head = head_of(self.endpoint, method, target, headers, body)
        reused = self._socket is not None
        try:
            return self._exchange(method, head, body)
        except (OSError, EOFError, ProtocolViolation) as err:
            self.close()
            if reused and unheard(body, err):
                return self.request(method, target, headers=headers)
            raise lost(self.endpoint, err) from err

    def upgrade(self, target: str, headers: Iterable[tuple[str, str]]) -> tuple[socket.socket, bytes] | Response:
        """Ask for another protocol on this connection.

        Returns the socket, which the caller owns from then on, and the bytes that came already; or the daemon's answer
        if it declines.
        """
        response = self.request("GET", target, headers=[("Connection", "Upgrade"), *headers])
        if response.head.status != 101:
            return response
        return self.handed_over(response._parser)

    def abort(self) -> None:
        """End, from another thread, what this connection is used for: it fails there, now or when it begins."""
        self._aborted = True
        if (taken := self._socket) is not None:
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)

    def receive_into(self, parser: ResponseParser) -> list[bytes]:
        """Wait for bytes and return the pieces of body in them; raises `Unavailable` if the connection ends early."""
        try:
            return self._receive(parser)
        except (OSError, EOFError, ProtocolViolation) as err:
            self.close()
            raise lost(self.endpoint, err) from err

    def _exchange(self, method: str, head: bytes, body: Body) -> Response:
        sock = self._opened()
        if body is None or isinstance(body, bytes):
            sock.sendall(head + (body or b""))
        else:
            self._send_pieces(sock, head, body)
        parser = ResponseParser(method)
        first: list[bytes] = []
        while parser.head is None:
            first += self._receive(parser)
        response = Response(self, parser, first)
        if parser.done and parser.head.status != 101:
            self.finished(parser)
        return response

    def _send_pieces(self, sock: socket.socket, head: bytes, body: Iterable[bytes]) -> None:
        chunked = b"Transfer-Encoding: chunked" in head
        sock.sendall(head)
        try:
            for piece in body:
                if piece:
                    sock.sendall(chunk(piece) if chunked else piece)
            if chunked:
                sock.sendall(chunk(b""))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon has refused the rest; its answer, which is on the way, says why

    def _receive(self, parser: ResponseParser) -> list[bytes]:
        assert self._socket is not None
        data = self._socket.recv(RECEIVE_BYTES)
        if data:
            return list(parser.feed(data))
        if parser.head is None:
            raise EOFError("the daemon closed the connection without an answer")
        parser.feed_eof()
        return []

    def _opened(self) -> socket.socket:
        self.close_stale()
        if self._socket is None:
            self._socket = self._connect()
        if self._aborted:
            raise ConnectionAbortedError("it was called off")
        return self._socket

    def _connect(self) -> socket.socket:
        endpoint = self.endpoint
        if not endpoint.path:
            opened = socket.create_connection((endpoint.host, endpoint.port), CONNECT_TIMEOUT_S)
            set_options(opened)
        else:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # Without a timeout: with one, a daemon whose backlog is full for a moment would count as an error.
                opened.connect(endpoint.path)
            except BaseException:
                opened.close()
                raise
        opened.settimeout(self._timeout_s)
        return opened


def head_of(endpoint: Endpoint, method: str, target: str, headers: Iterable[tuple[str, str]], body: object) -> bytes:
    """Return the bytes of a request up to its body, which is sent as its type says; see `Connection.request`."""
    fields = [("Host", endpoint.authority), *headers]
    if endpoint.key:
        fields.append(("Authorization", f"Bearer {endpoint.key}"))
    if isinstance(body, bytes):
        fields.append(("Content-Length", str(len(body))))
    elif body is not None and not any(name.lower() == "content-length" for name, _ in fields):
        fields.append(("Transfer-Encoding", "chunked"))
    return request_head(method, target, fields)


def unheard(body: object, err: Exception) -> bool:
    """Say whether a request that failed on a kept connection may be sent again, on a new one."""
    return body is None and isinstance(err, (ConnectionError, EOFError))


def lost(endpoint: Endpoint, err: Exception) -> Exception:
    """Return what to tell the caller of a connection to `endpoint` that failed with `err`."""
    from bhatti.errors import Unavailable

    if isinstance(err, PermissionError):
        return Unavailable(
            f"{endpoint} belongs to another user",
            hint="run as that user, or start a daemon of your own: bhatti serve",
            code="daemon-not-yours",
        )
    if isinstance(err, (ConnectionRefusedError, FileNotFoundError)):
        return Unavailable(
            f"no daemon is running at {endpoint}",
            hint="start one: `bhatti serve`; without one, `bhatti create` and `bhatti run` start it in the background"
            if endpoint.path
            else "is the address right, and is it what the setting `listen` of the daemon on that machine says?",
            code="daemon-not-running",
        )
    return Unavailable(
        f"the connection to {endpoint} was lost: {str(err) or type(err).__name__}",
        hint="`bhatti version` says whether the daemon is still there",
        code="connection-lost",
    )


def set_options(opened: socket.socket) -> None:
    """Have TCP send each message at once, and notice when nobody is there any more."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # other systems have not all of them
            opened.setsockopt(socket.IPPROTO_TCP, option, value)


def has_news(sock: socket.socket) -> bool:
    """Say whether there is something to read, or the end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
