"""The client's side of HTTP/1.1 (RFC 9112), without I/O: bytes of a request out, bytes of a response in.

The command line speaks to the daemon with it (the standard library's client costs 40 ms of imports, more than all the
rest of a command), and the daemon speaks to web servers inside guests with it. Knows exactly what these two need:
one response to one request, body by length, in chunks, or until the end of the connection.
"""

import re
from collections.abc import Iterable, Iterator

MAX_HEAD_BYTES = 64 << 10
"""Status line and headers together; a server that sends more is broken or hostile."""

MAX_CHUNK_LINE_BYTES = 1 << 10
"""A chunk's size line, extensions included; ours are a dozen bytes."""

STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
"""What some take for the end of a line, or of everything, and others do not."""

Headers = list[tuple[str, str]]


class ProtocolViolation(ValueError):
    """What came is not HTTP/1.1, or passes a limit; the message says where."""


class Head:
    """Status and headers of a response. Header names are lower case; `reason` may be empty."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers

    def get(self, name: str, default: str = "") -> str:
        """Return the first header called `name` (lower case)."""
        for key, value in self.headers:
            if key == name:
                return value
        return default


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the bytes of a request up to its body; raises `ProtocolViolation` for what would break out of a line."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    if any("\r" in line or "\n" in line for line in lines) or " " in target:
        raise ProtocolViolation("a request line or header holds a line break or a space")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of a chunked body; the empty chunk ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ResponseParser:
    """One response. Give it bytes with `feed`; `head` is set when it is known, `done` when the body is complete.

    `feed` yields pieces of the body. After `done`, what is left in `rest` belongs to whatever follows: another
    response, or the protocol that a 101 switched to.
    """

    def __init__(self, method: str = "GET", *, max_head_bytes: int = MAX_HEAD_BYTES) -> None:
        self.head: Head | None = None
        self.done = False
        self.rest = b""
        self.keep_alive = True
        self._method = method
        self._max_head_bytes = max_head_bytes
        self._remaining: int | None = None  # of the body or chunk; None: until the end of the connection
        self._chunked = False
        self._trailer = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes that came; yield the pieces of body in them. Consume the iterator before the next call."""
        self.rest = self.rest + data if self.rest else data
        if self.head is None and not self._read_head():
            return
        if self._chunked:
            yield from self._chunks()
            return
        if self.done:
            return
        piece = self.rest if self._remaining is None else self.rest[: self._remaining]
        self.rest = self.rest[len(piece) :]
        if self._remaining is not None:
            self._remaining -= len(piece)
            self.done = self._remaining == 0
        if piece:
            yield piece

    def feed_eof(self) -> None:
        """Take the end of the connection; raises `ProtocolViolation` if the response was not complete."""
        if self.done:
            return
        if self.head is None:
            raise ProtocolViolation("the connection ended before the response's head")
        if self._chunked or self._remaining is not None:
            raise ProtocolViolation("the connection ended in the middle of the response's body")
        self.done = True

    def _read_head(self) -> bool:
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = parse_head(self.rest[:end])
            self.rest = self.rest[end + 4 :]
            if head.status >= 200 or head.status == 101:  # the others are interim: the real one follows
                self.head = head
                self._frame(head)
                return True
        if len(self.rest) > self._max_head_bytes:
            raise ProtocolViolation(f"the response's head is longer than {self._max_head_bytes} bytes")
        return False

    def _frame(self, head: Head) -> None:
        """Decide how the body ends, as RFC 9112 section 6.3 orders the cases; leave no header that says otherwise."""
        lengths = [value for name, value in head.headers if name == "content-length"]
        if len(set(lengths)) > 1:
            raise ProtocolViolation("the response has two lengths")
        chunked = head.get("transfer-encoding").lower().endswith("chunked")
        if chunked or len(lengths) > 1:
            head.headers[:] = [header for header in head.headers if header[0] != "content-length"]
            head.headers += [] if chunked else [("content-length", lengths[0])]
        self.keep_alive = "close" not in head.get("connection").lower()
        if self._method == "HEAD" or head.status in (101, 204, 304):
            self.done = True
        elif chunked:
            self._chunked, self._remaining = True, None
        elif length := head.get("content-length"):
            if not (length.isascii() and length.isdigit()):
                raise ProtocolViolation(f"content-length {length[:40]!r} is not a number")
            self._remaining = int(length)
            self.done = self._remaining == 0
        else:
            self.keep_alive = False

    def _chunks(self) -> Iterator[bytes]:
        while not self.done:
            if self._remaining:
                piece = self.rest[: self._remaining]
                if not piece:
                    return
                self.rest = self.rest[len(piece) :]
                self._remaining -= len(piece)
                yield piece
                continue
            line, found, after = self.rest.partition(b"\r\n")
            if not found:
                if len(self.rest) > MAX_CHUNK_LINE_BYTES:
                    raise ProtocolViolation("a chunk's size line is too long")
                return
            self.rest = after
            if self._trailer:
                self.done = not line
            elif self._remaining == 0:  # the line break that closes a chunk's data
                if line:
                    raise ProtocolViolation("a chunk is longer than it said")
                self._remaining = None
            else:
                size = _chunk_size(line)
                self._trailer = size == 0
                self._remaining = size or None


def parse_head(raw: bytes) -> Head:
    """Parse a response's head, without its closing blank line."""
    if STRAY.search(raw):
        raise ProtocolViolation("the response's head holds half a line break, or a NUL")
    status_line, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not re.fullmatch("[1-9][0-9][0-9]", code):
        raise ProtocolViolation(f"not an HTTP/1.1 status line: {status_line[:80]!r}")
    headers: Headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolViolation(f"not a header line: {line[:80]!r}")
        headers.append((name.lower(), value.strip()))
    head = Head(int(code), reason, headers)
    if version == "HTTP/1.0" and not head.get("connection"):
        headers.append(("connection", "close"))
    return head


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    try:
        if not digits or digits[:1] in b"+-" or b"_" in digits:
            raise ValueError
        return int(digits, 16)
    except ValueError:
        raise ProtocolViolation(f"not a chunk size: {line[:40]!r}") from None
