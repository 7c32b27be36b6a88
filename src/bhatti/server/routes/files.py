"""Files of a guest: streamed both ways, never held whole."""

import contextlib
import errno
import posixpath
import shutil
import socket
from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
from aiohttp import web
from anyio import to_thread

from bhatti.errors import InvalidRequest, OutOfSpace
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import SOCKET_BUFFER
from bhatti.operations import table, types
from bhatti.server import errands
from bhatti.server.call import EVENT_STREAM, SERVER_SENT, Call, Handler
from bhatti.server.events import EventStream, ServerSent
from bhatti.server.failures import ours
from bhatti.server.guest import entered, explained
from lohar.wire.messages import WatchEvents

SPOOL_DIRECTORY = "/var/tmp"
"""On a disk by the file system standard, which `/tmp` need not be."""

SPOOL_MEMORY_BYTES = 1 << 20
SPOOL_PIECE_BYTES = 256 << 10

SPOOL_SPARE_BYTES = 1 << 30
"""What is left to the daemon's machine: whoever sends without end must not fill the disk that all others need."""

SPOOL_LOOK_BYTES = 16 << 20
"""How often it is looked at how much that is."""

ALIVE_S = 15.0
"""Often enough that neither side's proxies think the connection dead, and that a watcher who has gone is noticed."""

Q = TypeVar(
    "Q",
    types.FileQuery,
    types.FileWriteQuery,
    types.FileRemoveQuery,
    types.ArchiveQuery,
    types.UnpackQuery,
    types.WatchQuery,
)


async def read(call: Call) -> list[types.FileEntry] | web.StreamResponse:
    """Send a file, or the list of a directory."""
    query = _checked(call.query(types.FileQuery))
    async with entered(call) as link:
        if query.ls:
            return [
                types.FileEntry(name=f.name, size=f.size, mode=f.mode, is_dir=f.is_dir, mtime=f.mtime)
                for f in await link.list_dir(query.path)
            ]
        return await _send(call, link, query)


async def _send(call: Call, link: GuestLink, query: types.FileQuery) -> web.StreamResponse:
    whole = not (query.offset or query.limit or query.max_bytes)
    async with link.open_read(
        query.path, offset=query.offset, limit=query.limit, max_bytes=query.max_bytes
    ) as download:
        response = web.StreamResponse(headers={"X-File-Size": str(download.size), "X-File-Mode": download.mode})
        response.content_type = "application/octet-stream"
        chunks = download.chunks()
        first = await anext(chunks, b"")
        if whole and (download.size or not first):  # those of /proc have no size, and content all the same
            response.content_length = download.size
        await _begin(call, response)
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()
    return response


async def _begin(call: Call, response: web.StreamResponse) -> None:
    """Begin an answer that may be long. With the kernel's own buffer a quarter more CPU time goes into a download, here
    and at the caller's: a piece does not fit into it.
    """
    await response.prepare(call.request)
    if call.request.transport is not None:
        taken: socket.socket = call.request.transport.get_extra_info("socket")
        if taken.family == socket.AF_UNIX:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)


async def stat(call: Call) -> web.Response:
    """Describe a file in headers."""
    query = _checked(call.query(types.FileQuery))
    async with entered(call) as link:
        info = await link.stat(query.path)
    return web.Response(
        headers={
            "X-File-Size": str(info.size),
            "X-File-Mode": info.mode,
            "X-File-IsDir": "true" if info.is_dir else "false",
            "X-File-MTime": str(info.mtime),
        }
    )


async def write(call: Call) -> types.Outcome:
    """Take the body as a file, with or without a length announced."""
    query = _checked(call.query(types.FileWriteQuery))
    async with entered(call) as link:
        if (size := call.request.content_length) is not None:
            await link.write_file(query.path, _pieces(call), size=size, mode=query.mode)
        else:
            await _write_of_unknown_length(call, link, query)
    return types.Outcome(status="ok")


async def _write_of_unknown_length(call: Call, link: GuestLink, query: types.FileWriteQuery) -> None:
    """The guest wants to know the length first: what comes without one waits on the host's disk, not in memory."""
    async with anyio.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES, dir=SPOOL_DIRECTORY) as spool:
        size, look_at = 0, SPOOL_LOOK_BYTES
        try:
            async for piece in _pieces(call):
                size += await spool.write(piece)
                if size >= look_at:
                    look_at = size + SPOOL_LOOK_BYTES
                    if (await to_thread.run_sync(shutil.disk_usage, SPOOL_DIRECTORY)).free < SPOOL_SPARE_BYTES:
                        raise OSError(errno.ENOSPC, "no more than is left to others")
            await spool.seek(0)
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OutOfSpace(
                f"{SPOOL_DIRECTORY} on the daemon's machine is full",
                hint="announce the length of what is written (Content-Length), so that it need not wait there",
            ) from err

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await spool.read(SPOOL_PIECE_BYTES):
                yield piece

        await link.write_file(query.path, pieces(), size=size, mode=query.mode)


async def _pieces(call: Call) -> AsyncIterator[bytes]:
    async for piece in call.request.content.iter_any():
        yield piece


async def make_directory(call: Call) -> types.Outcome:
    """Make a directory."""
    request = await call.body(types.DirectoryMake)
    _usable(request.path)
    async with entered(call) as link:
        await errands.run(link, "make", request.path, request.mode, "parents" if request.parents else "")
    return types.Outcome(status="ok")


async def remove(call: Call) -> types.Outcome:
    """Remove a file or a directory."""
    query = _checked(call.query(types.FileRemoveQuery))
    if posixpath.normpath(f"/{query.path}").strip("/") == "":
        raise InvalidRequest("that would remove everything", hint="remove the sandbox instead", code="bad-path")
    async with entered(call) as link:
        await errands.run(link, "remove", query.path, "recursive" if query.recursive else "")
    return types.Outcome(status="deleted")


async def move(call: Call) -> types.Outcome:
    """Give a file or directory another name."""
    return await _to_another_name(call, "move")


async def copy(call: Call) -> types.Outcome:
    """Copy a file or directory within the sandbox."""
    return await _to_another_name(call, "copy")


async def _to_another_name(call: Call, chore: str) -> types.Outcome:
    request = await call.body(types.FileMove)
    for path in (request.source, request.target):
        _usable(path)
    async with entered(call) as link:
        await errands.run(link, chore, request.source.rstrip("/") or "/", request.target.rstrip("/") or "/")
    return types.Outcome(status="ok")


async def pack(call: Call) -> web.StreamResponse:
    """Send a directory, or a file, as a tar stream; what cannot be read is told if it is found out before the start."""
    query = _checked(call.query(types.ArchiveQuery))
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    async with (
        entered(call) as link,
        errands.errand(link, "send", query.path, query.name) as errand,
        contextlib.aclosing(errand.output()) as output,
    ):
        first = await anext(output)
        await _begin(call, response)
        await response.write(first)
        async for piece in output:
            await response.write(piece)
    await response.write_eof()
    return response


async def unpack(call: Call) -> types.Outcome:
    """Take the body as a tar stream and unpack it into a directory."""
    query = _checked(call.query(types.UnpackQuery))
    async with entered(call) as link, errands.errand(link, "receive", query.path) as errand:
        await errand.feed(_pieces(call))
    return types.Outcome(status="ok")


async def watch(call: Call) -> web.StreamResponse:
    """Tell what happens to files, as it happens."""
    query = _checked(call.query(types.WatchQuery))
    kind = ServerSent if call.accepts(EVENT_STREAM, SERVER_SENT) == SERVER_SENT else EventStream
    stream: EventStream[types.FileEvent] = kind(call)
    async with entered(call) as link, link.watch(query.path, recursive=query.recursive) as news:
        await stream.begin()
        try:
            await stream.send(types.FileEvent(type="ready"))
            with anyio.move_on_after(query.timeout_sec) as whole:
                await _tell(stream, aiter(news))
            if whole.cancelled_caught:
                await stream.send(types.FileEvent(type="end"))
        except ConnectionError:  # the watcher has left
            raise
        except Exception as err:
            await stream.send(types.FileEvent.of(ours(await explained(call, err), call.request, call.request_id)))
    return await stream.end()


async def _tell(stream: EventStream[types.FileEvent], changes: AsyncIterator[WatchEvents]) -> None:
    while True:
        with anyio.move_on_after(ALIVE_S) as waiting:
            batch = await anext(changes)
        if waiting.cancelled_caught:
            await stream.send(types.FileEvent(type="alive"))
            continue
        for event in batch.events:
            await stream.send(types.FileEvent(type="change", path=event.path, change=event.kind, is_dir=event.is_dir))
        if batch.overflow:
            await stream.send(types.FileEvent(type="overflow"))


def _checked(query: Q) -> Q:
    _usable(query.path)
    return query


def _usable(path: str) -> None:
    if "\0" in path:
        raise InvalidRequest("the path holds a NUL", hint="no file can have such a name", code="bad-path")


HANDLERS: dict[str, Handler] = {
    table.FILE_READ.name: read,
    table.FILE_STAT.name: stat,
    table.FILE_WRITE.name: write,
    table.FILE_MKDIR.name: make_directory,
    table.FILE_REMOVE.name: remove,
    table.FILE_MOVE.name: move,
    table.FILE_COPY.name: copy,
    table.FILE_WATCH.name: watch,
    table.FILE_PACK.name: pack,
    table.FILE_UNPACK.name: unpack,
}
