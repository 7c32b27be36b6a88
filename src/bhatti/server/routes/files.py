"""Files of a guest: streamed both ways, never held whole."""

from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
from aiohttp import web

from bhatti.errors import InvalidRequest
from bhatti.guestlink.client import GuestLink
from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.guest import entered

SPOOL_DIRECTORY = "/var/tmp"
"""On a disk by the file system standard, which `/tmp` need not be."""

SPOOL_MEMORY_BYTES = 1 << 20
SPOOL_PIECE_BYTES = 256 << 10

Q = TypeVar("Q", types.FileQuery, types.FileWriteQuery)


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
        if whole:
            response.content_length = download.size
        await response.prepare(call.request)
        async for chunk in download.chunks():
            await response.write(chunk)
    await response.write_eof()
    return response


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
        size = 0
        async for piece in _pieces(call):
            size += await spool.write(piece)
        await spool.seek(0)

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await spool.read(SPOOL_PIECE_BYTES):
                yield piece

        await link.write_file(query.path, pieces(), size=size, mode=query.mode)


async def _pieces(call: Call) -> AsyncIterator[bytes]:
    async for piece in call.request.content.iter_any():
        yield piece


def _checked(query: Q) -> Q:
    if "\0" in query.path:
        raise InvalidRequest("the path holds a NUL", code="bad-path")
    return query


HANDLERS: dict[str, Handler] = {
    table.FILE_READ.name: read,
    table.FILE_STAT.name: stat,
    table.FILE_WRITE.name: write,
}
