"""Files of the guest: reading, writing, describing, listing and watching."""

import re
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Self

import anyio.to_thread

from bhatti.errors import GuestFailure, InvalidRequest
from bhatti.guestlink.channel import Channel, Frame
from bhatti.guestlink.exchange import Exchange
from bhatti.guestlink.failures import violation
from lohar.wire.frames import HEADER_SIZE, FrameType, encode
from lohar.wire.messages import (
    Feature,
    FileInfo,
    FileListRequest,
    FileReadRequest,
    FileReadResponse,
    FileStatRequest,
    FileWriteRequest,
    MessageError,
    WatchEvents,
    WatchRequest,
    decode_list,
)

UPLOAD_PIECE = 256 << 10
"""Content sent as one frame: from here on larger frames gain nothing."""

LONG_LIST = 64 << 10
"""A listing's JSON above this size is decoded in a worker thread: it would hold up the loop for milliseconds."""


OCTAL = re.compile("[0-7]*")

MAX_LIST_BYTES = 64 << 20
MAX_LIST_ENTRIES = 250_000
"""Of one listing, which is held whole, here and by whoever asked: with the longest of names it has 60 MiB of JSON. An
agent that never ends one must not fill the host's memory."""


class FileDownload:
    """A file being read: `size` and `mode` are known, the content comes from `chunks()`."""

    def __init__(self, exchange: Exchange, request: FileReadRequest) -> None:
        self.size = 0
        self.mode = ""
        self._exchange = exchange
        self._request = request
        self._channel: Channel | None = None
        self._frames: list[Frame] = []

    async def __aenter__(self) -> Self:
        exchange = self._exchange
        channel, frames = await exchange.begin(
            FrameType.FILE_READ_REQ, self._request.to_json(), exchange.deadlines.reply_s, repeatable=True
        )
        kind, payload = frames[0]
        if kind != FrameType.FILE_READ_RESP:
            raise exchange.refuse(channel, kind, payload)
        self._channel = channel
        try:
            response = exchange.decode(FileReadResponse, payload)
            _check(exchange, response)
        except BaseException:
            self.close()
            raise
        self.size, self.mode, self._frames = response.size, response.mode, frames[1:]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. Idempotent."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._exchange.pool.discard(channel)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content as it comes, in pieces of up to 256 KiB; memory stays constant however slow the caller is.

        Raises `GuestFailure` when the agent cannot read on, `Unavailable`, `GuestTimeout` when nothing comes any more.
        """
        while self._channel is not None:
            channel, frames, self._frames = self._channel, self._frames, []
            for kind, payload in frames:
                if kind == FrameType.STDOUT:
                    yield payload
                    continue
                self._channel = None
                if kind != FrameType.EXIT:
                    raise self._exchange.refuse(channel, kind, payload)
                self._exchange.pool.release(channel)
                return
            self._frames = await channel.receive(self._exchange.pool.deadline(self._exchange.deadlines.stall_s))


async def write_bytes(exchange: Exchange, path: str, data: bytes, mode: str) -> None:
    """Write a file that is in memory."""
    request = encode(FrameType.FILE_WRITE_REQ, FileWriteRequest(path=path, mode=mode, size=len(data)).to_json())
    if len(data) > UPLOAD_PIECE:
        await _upload(exchange, request, _pieces(data), len(data))
        return
    channel = await exchange.pool.acquire()
    try:
        channel.send_all(request, *([encode(FrameType.STDIN, data)] if data else []))
        kind, payload = (await channel.receive(exchange.pool.deadline(exchange.deadlines.stall_s)))[0]
    except BaseException:
        exchange.pool.discard(channel)
        raise
    if kind != FrameType.FILE_WRITE_RESP:
        raise exchange.refuse(channel, kind, payload)
    exchange.pool.release(channel)


async def write_stream(exchange: Exchange, path: str, source: AsyncIterable[bytes], size: int, mode: str) -> None:
    """Write a file of `size` bytes that come from `source`; it is an error if they are fewer or more."""
    request = encode(FrameType.FILE_WRITE_REQ, FileWriteRequest(path=path, mode=mode, size=size).to_json())
    await _upload(exchange, request, source, size)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _upload(exchange: Exchange, request: bytes, source: AsyncIterable[bytes], size: int) -> None:
    pool, stall_s = exchange.pool, exchange.deadlines.stall_s
    channel = await pool.acquire()
    sent = 0
    try:
        channel.send_all(request)
        async for data in source:
            view = memoryview(data)
            sent += len(view)
            if sent > size:
                raise InvalidRequest(
                    f"more than the announced {size} bytes to upload",
                    hint="announce as many bytes as you send",
                    code="bad-size",
                )
            for start in range(0, len(view), UPLOAD_PIECE):
                channel.send(FrameType.STDIN, view[start : start + UPLOAD_PIECE])
                if not channel.writable:
                    await channel.drain(pool.deadline(stall_s))
            if channel.interrupted:
                break  # the agent has refused, or is gone: the answer tells
        else:
            if sent < size:
                raise InvalidRequest(
                    f"{sent} bytes to upload, {size} were announced",
                    hint="announce as many bytes as you send",
                    code="bad-size",
                )
        kind, payload = (await channel.receive(pool.deadline(stall_s)))[0]
        if sent < size or kind != FrameType.FILE_WRITE_RESP:
            raise exchange.refuse(channel, kind, payload)
    except BaseException:
        pool.discard(channel)
        raise
    pool.release(channel)


async def stat(exchange: Exchange, path: str) -> FileInfo:
    """Describe a file."""
    payload = FileStatRequest(path=path).to_json()
    info = exchange.decode(FileInfo, await exchange.ask(FrameType.FILE_STAT_REQ, payload, FrameType.FILE_STAT_RESP))
    _check(exchange, info)
    return info


def _check(exchange: Exchange, said: FileInfo | FileReadResponse) -> None:
    """Raise `Unavailable` for a size or mode that no file has: both become headers of an answer."""
    if said.size < 0 or not OCTAL.fullmatch(said.mode):
        raise violation(exchange.pool.peer, f"a file of {said.size} bytes with the mode {said.mode!r}")


async def list_dir(
    exchange: Exchange, path: str, *, max_bytes: int = MAX_LIST_BYTES, max_entries: int = MAX_LIST_ENTRIES
) -> list[FileInfo]:
    """List a directory; from an old agent the first 10,000 entries and a last one that says so.

    Raises `GuestFailure` (code `too-many-entries`) beyond the limits.
    """
    pool, seconds = exchange.pool, exchange.deadlines.stall_s
    chunked = await pool.has(Feature.CHUNKED_LIST)
    request = FileListRequest(path=path, chunked=chunked).to_json()
    channel, frames = await exchange.begin(FrameType.FILE_LS_REQ, request, seconds, repeatable=True)
    entries: list[FileInfo] = []
    size = 0
    try:
        while True:
            for kind, payload in frames:
                if kind == FrameType.FILE_LS_RESP:
                    size += HEADER_SIZE + len(payload)
                    entries += await _entries(exchange, payload)
                    if size > max_bytes or len(entries) > max_entries:
                        raise _too_many(path, max_entries)
                elif kind != FrameType.EXIT:
                    raise exchange.refuse(channel, kind, payload)
                if kind == FrameType.EXIT or not chunked:
                    pool.release(channel)
                    return entries
            frames = await channel.receive(pool.deadline(seconds))
    except BaseException:
        pool.discard(channel)
        raise


async def _entries(exchange: Exchange, payload: bytes) -> list[FileInfo]:
    try:
        if len(payload) > LONG_LIST:
            return await anyio.to_thread.run_sync(decode_list, FileInfo, payload)
        return decode_list(FileInfo, payload)
    except MessageError as error:
        raise violation(exchange.pool.peer, f"FILE_LS_RESP: {error}") from error


def _too_many(path: str, limit: int) -> GuestFailure:
    return GuestFailure(
        f"{path} has more entries than can be listed at once, which is {limit}",
        hint="look at it with a command in the sandbox, such as `ls`",
        code="too-many-entries",
    )


class Watch:
    """Changes below a path, as an async context manager and an async iterator of `WatchEvents`.

    Inside the `async with` the watch stands: what happens from then on is reported.
    """

    def __init__(self, exchange: Exchange, request: WatchRequest) -> None:
        self._exchange = exchange
        self._request = request
        self._channel: Channel | None = None
        self._frames: list[Frame] = []

    async def __aenter__(self) -> Self:
        exchange = self._exchange
        channel, frames = await exchange.begin(
            FrameType.FILE_WATCH_REQ, self._request.to_json(), exchange.deadlines.stall_s, repeatable=True
        )
        kind, payload = frames[0]
        if kind != FrameType.FILE_WATCH_EVENT:
            raise exchange.refuse(channel, kind, payload)
        self._channel, self._frames = channel, frames[1:]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            self._exchange.pool.discard(channel)

    def __aiter__(self) -> AsyncIterator[WatchEvents]:
        return self

    async def __anext__(self) -> WatchEvents:
        """Return the next changes, or word that some were lost. Raises `GuestFailure`, `Unavailable`. Safe to
        cancel."""
        channel = self._channel
        if channel is None:
            raise StopAsyncIteration
        if not self._frames:
            self._frames = await self._exchange.patiently(channel.receive)
        kind, payload = self._frames.pop(0)
        if kind == FrameType.FILE_WATCH_EVENT:
            return self._exchange.decode(WatchEvents, payload)
        self._channel = None
        if kind == FrameType.EXIT:
            self._exchange.pool.release(channel)
            raise StopAsyncIteration
        raise self._exchange.refuse(channel, kind, payload)
