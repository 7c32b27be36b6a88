"""Files of a sandbox."""

from bhatti.errors import OutOfSpace
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams
from bhatti.operations.tables.guest import GUEST_ERRORS

FILE_READ: Operation[None, list[types.FileEntry]] = Operation(
    name="file.read",
    method="GET",
    path="/sandboxes/{id}/files",
    summary="Read a file, whole or some lines of it; with `ls=true` list a directory.",
    query=types.FileQuery,
    result=list[types.FileEntry],
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.DOWNLOAD,
)
FILE_STAT: Operation[None, None] = Operation(
    name="file.stat",
    method="HEAD",
    path="/sandboxes/{id}/files",
    summary="Describe a file in the headers X-File-Size, X-File-Mode and X-File-IsDir.",
    query=types.FileQuery,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_WRITE: Operation[None, types.Outcome] = Operation(
    name="file.write",
    method="PUT",
    path="/sandboxes/{id}/files",
    summary="Write the body to a file, which appears whole or not at all; missing directories are made.",
    query=types.FileWriteQuery,
    result=types.Outcome,
    errors=(*GUEST_ERRORS, OutOfSpace),
    wakes=True,
    streams=Streams.UPLOAD,
)
FILE_REMOVE: Operation[None, types.Outcome] = Operation(
    name="file.remove",
    method="DELETE",
    path="/sandboxes/{id}/files",
    summary="Remove a file or a directory.",
    query=types.FileRemoveQuery,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_MKDIR: Operation[types.DirectoryMake, types.Outcome] = Operation(
    name="file.mkdir",
    method="POST",
    path="/sandboxes/{id}/files/mkdir",
    summary="Make a directory.",
    request=types.DirectoryMake,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_MOVE: Operation[types.FileMove, types.Outcome] = Operation(
    name="file.move",
    method="POST",
    path="/sandboxes/{id}/files/move",
    summary="Give a file or directory another name, also on another volume.",
    request=types.FileMove,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_COPY: Operation[types.FileMove, types.Outcome] = Operation(
    name="file.copy",
    method="POST",
    path="/sandboxes/{id}/files/copy",
    summary="Copy a file or directory within the sandbox; the copy has its name when it is complete.",
    request=types.FileMove,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
)
FILE_WATCH: Operation[None, None] = Operation(
    name="file.watch",
    method="GET",
    path="/sandboxes/{id}/files/watch",
    summary=(
        "Tell what happens to a file or directory, as it happens: one JSON document a line, or server-sent events for "
        "who accepts `text/event-stream`. What happens after the first line, `ready`, is told. The sandbox stays awake."
    ),
    query=types.WatchQuery,
    event=types.FileEvent,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.EVENTS,
)
FILE_PACK: Operation[None, None] = Operation(
    name="file.pack",
    method="GET",
    path="/sandboxes/{id}/files/archive",
    summary=(
        "Send a directory with all that is in it, or a file, as one tar stream. Sockets, pipes and devices are left "
        "out. An answer that breaks off is incomplete."
    ),
    query=types.ArchiveQuery,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.DOWNLOAD,
)
FILE_UNPACK: Operation[None, types.Outcome] = Operation(
    name="file.unpack",
    method="PUT",
    path="/sandboxes/{id}/files/archive",
    summary=(
        "Unpack the body, a tar stream, into a directory. Files replace files, directories are merged; no file has its "
        "name before all of it is there. What leads out of the directory or through a link is refused."
    ),
    query=types.UnpackQuery,
    result=types.Outcome,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.UPLOAD,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    FILE_READ,
    FILE_STAT,
    FILE_WRITE,
    FILE_MKDIR,
    FILE_COPY,
    FILE_MOVE,
    FILE_WATCH,
    FILE_PACK,
    FILE_UNPACK,
    FILE_REMOVE,
)
