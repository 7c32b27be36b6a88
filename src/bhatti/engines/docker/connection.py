"""Requests to the Docker Engine over its unix socket: each with a deadline, each failure a typed one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from bhatti.engines.docker import failures
from bhatti.engines.docker.api_types import Message

T = TypeVar("T")

Parameters = Mapping[str, str]
Body = bytes | AsyncIterator[bytes]

CONNECT_TIMEOUT_S = 5.0
"""A connection to a local socket takes microseconds; only a dockerd that hangs leaves its queue full."""

MAX_REFUSAL_BYTES = 64 << 10
MAX_LINE_BYTES = 1 << 20
"""One event or step of progress has some hundred bytes, labels included."""


class DockerConnection:
    """Makes requests below `prefix`, the version of the API in the path. Nothing is open between two requests.

    Connections are not kept: on a unix socket a new one costs 50 us, and a kept one may turn out dead halfway through
    a request that must not be repeated.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.prefix = ""
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        parameters: Parameters | None = None,
        body: Body | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of an answer below 400; raises what `bhatti.engines.docker.failures` has."""
        what = f"{method} {path}"
        async with self._open(method, path, parameters, body, kind, _deadline(timeout_s), what) as response:
            return response.status, response.headers, await response.read()

    async def ask(
        self,
        expected: type[T],
        method: str,
        path: str,
        *,
        timeout_s: float,
        parameters: Parameters | None = None,
        body: Body | None = None,
        kind: str = "application/json",
    ) -> T:
        """Return the answer's body as `expected`; raises like `request`."""
        _, _, answer = await self.request(
            method, path, timeout_s=timeout_s, parameters=parameters, body=body, kind=kind
        )
        return self._decode(expected, answer, f"{method} {path}")

    async def lines(
        self,
        expected: type[T],
        method: str,
        path: str,
        *,
        silence_s: float | None,
        parameters: Parameters | None = None,
        body: Body | None = None,
        kind: str = "application/json",
    ) -> AsyncGenerator[T, None]:
        """Yield the JSON texts of an answer as they come; `silence_s` bounds the time between two (None: no bound).

        Close the iterator (`contextlib.aclosing`) to end early.
        """
        what = f"{method} {path}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        async with self._open(method, path, parameters, body, kind, timeout, what) as response:
            rest = b""
            async for data in response.content.iter_any():
                *complete, rest = (rest + data).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise failures.incomprehensible(what, f"a line of more than {MAX_LINE_BYTES} bytes")
                for line in complete:
                    if line.strip():
                        yield self._decode(expected, line, what)
            if rest.strip():
                yield self._decode(expected, rest, what)

    async def aclose(self) -> None:
        """Give up what is open. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        body: Body | None,
        kind: str,
        timeout: aiohttp.ClientTimeout,
        what: str,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._client().request(
                method,
                f"http://docker{self.prefix}{path}",
                params=parameters,
                data=body,
                headers={"Content-Type": kind} if body is not None else {},
                timeout=timeout,
            ) as response:
                if response.status >= 400:
                    message = _message(await response.content.read(MAX_REFUSAL_BYTES))
                    raise failures.refused(what, response.status, message)
                yield response
        except aiohttp.ClientConnectorError as error:
            raise failures.unreachable(self.socket, error.os_error) from error
        except TimeoutError as error:
            raise failures.silent(what, timeout.total or timeout.sock_read or CONNECT_TIMEOUT_S) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise failures.broken_off(what, str(error) or type(error).__name__) from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=str(self.socket), force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, loop=asyncio.get_running_loop())
        return self._session

    def _decode(self, expected: type[T], answer: bytes, what: str) -> T:
        try:
            return msgspec.json.decode(answer, type=expected)
        except msgspec.DecodeError as error:
            raise failures.incomprehensible(what, str(error)) from error


def _deadline(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_TIMEOUT_S))


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Message).message.strip()
    except msgspec.DecodeError:
        return body.decode(errors="replace").strip()[:500]
