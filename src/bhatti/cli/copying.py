"""What `bhatti file cp` does: files and directories between this machine and a sandbox."""

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bhatti.cli import progress
from bhatti.cli.places import Places
from bhatti.errors import InvalidRequest, NotFound
from bhatti.operations import table, types
from bhatti.sdk.client import Client
from bhatti.sdk.transfer import STREAM, There, on_this_machine, packed, packed_by_a_stranger, parsed, pieces_of, placed
from bhatti.trees.tar import PIECE_BYTES, shown
from bhatti.trees.unpacking import PERMISSIONS, unpack

OTHERS_MAY_WRITE = 0o022
"""What an agent takes away from the mode of a file that is written, as its umask says; of an archive, nothing."""


MAX_TOLD = 100
"""Of what is left out: a directory may be full of sockets, and an archive of a sandbox of anything."""


class Copy(msgspec.Struct, frozen=True):
    """What was copied where; `size_bytes` is what travelled, for directories with the archive's own bytes.

    `left_out` says what was no file, directory or link, at most `MAX_TOLD` of it.
    """

    source: str
    target: str
    size_bytes: int
    left_out: list[str]


def copied(client: Client, source: str, target: str, *, quiet: bool = False) -> Copy:
    """Copy `source` to `target`, one of which is in a sandbox. Raises our errors, for this machine's files too."""
    there, here = parsed(source), parsed(target)
    with progress.shown(source, quiet=quiet or not sys.stderr.isatty()) as report:
        meter = _Meter(report)
        if isinstance(there, There) and isinstance(here, str):
            place = _fetch(client, _found(client, there, is_source=True), here, meter)
        elif isinstance(there, str) and isinstance(here, There):
            place = f"{here.sandbox}:{_send(client, there, _found(client, here), meter)}"
        else:
            raise InvalidRequest(
                "one of the two must be in a sandbox, and one on this machine",
                hint="NAME:PATH is a path in a sandbox; from one sandbox to another, copy by way of `-`",
                code="bad-path",
            )
    return Copy(source, place, meter.done, meter.left_out)


def _found(client: Client, there: There, *, is_source: bool = False) -> There:
    """Return what is meant with an absolute path; `.` as a source is what is in a directory, as with cp."""
    place = Places(client, there.sandbox).absolute(there.path or ".")
    return There(there.sandbox, f"{place}/." if is_source and there.path in (".", "./") else place)


def is_directory(client: Client, name: str, path: str) -> bool | None:
    """Say whether a path of the sandbox is a directory; None if it is not there."""
    try:
        return client.head(table.FILE_STAT, {"path": path}, id=name)["x-file-isdir"] == "true"
    except NotFound:
        return None


def described(client: Client, name: str, path: str) -> types.FileEntry:
    """Return what a path of the sandbox is; raises `NotFound` with the reason."""
    try:
        found = client.head(table.FILE_STAT, {"path": path}, id=name)
    except NotFound:
        client.download(table.FILE_READ, {"path": path}, id=name)  # an answer to HEAD has no words
        raise
    return types.FileEntry(
        name=os.path.basename(path.rstrip("/")) or "/",  # noqa: PTH119 - a path of the sandbox
        size=int(found["x-file-size"]),
        mode=found["x-file-mode"],
        is_dir=found["x-file-isdir"] == "true",
        mtime=int(found["x-file-mtime"]),
    )


class _Meter:
    """Counts what passes, and shows it."""

    def __init__(self, report: progress.Report) -> None:
        self.done = 0
        self.left_out: list[str] = []
        self._report = report

    def leave_out(self, what: bytes) -> None:
        if len(self.left_out) < MAX_TOLD:
            self.left_out.append(shown(what) if len(self.left_out) < MAX_TOLD - 1 else "and more")

    def counted(self, pieces: Iterator[bytes], total: int = 0) -> Iterator[bytes]:
        for piece in pieces:
            self.done += len(piece)
            self._report(f"{self.done / (1 << 20):.1f} MiB", self.done, total)
            yield piece


# --- to the sandbox


def _send(client: Client, source: str, target: There, meter: _Meter) -> str:
    if source == STREAM:
        _existing_directory(client, target)
        stdin = iter(lambda: os.read(0, PIECE_BYTES), b"")
        client.upload(table.FILE_UNPACK, meter.counted(stdin), {"path": target.path}, id=target.sandbox)
        return target.path
    with on_this_machine():
        mode = os.stat(source).st_mode  # noqa: PTH116 - a trailing slash means something
    is_dir = stat.S_ISDIR(mode)
    if not is_dir and not stat.S_ISREG(mode):
        raise InvalidRequest(
            f"{source} is no file and no directory",
            hint="what a pipe or a device gives can be copied by way of `bhatti file write`",
            code="bad-path",
        )
    place = placed(source, target.path, is_dir=is_dir, target_is_dir=is_directory(client, *_names(target)))
    _existing_directory(client, There(target.sandbox, os.path.dirname(place) or "/"))  # noqa: PTH120 - of the sandbox
    if is_dir:
        archive = packed(source, on_left_out=meter.leave_out)
        client.upload(table.FILE_UNPACK, meter.counted(archive), {"path": place}, id=target.sandbox)
        return place
    if mode & OTHERS_MAY_WRITE:
        folder, name = os.path.split(place)
        client.upload(table.FILE_UNPACK, meter.counted(packed(source, name)), {"path": folder}, id=target.sandbox)
        return place
    with on_this_machine():
        file = open(source, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed by the block below
    with file:
        size = os.fstat(file.fileno()).st_size
        body = meter.counted(pieces_of(file.fileno(), size), size)
        query = {"path": place, "mode": f"{mode & PERMISSIONS:04o}"}
        client.upload(table.FILE_WRITE, body, query, size, id=target.sandbox)
    return place


def _names(there: There) -> tuple[str, str]:
    return there.sandbox, there.path


def _existing_directory(client: Client, there: There) -> None:
    """Raise `NotFound` unless there is such a directory, or such a sandbox."""
    found = is_directory(client, *_names(there))
    if found is None:
        client.call(table.SANDBOX_GET, id=there.sandbox)
        raise NotFound(
            f"there is no directory {there.path} in {there.sandbox}",
            hint=f"bhatti file mkdir {there.sandbox} {there.path}",
            code="no-such-file",
        )


# --- from the sandbox


def _fetch(client: Client, source: There, target: str, meter: _Meter) -> str:
    found = described(client, source.sandbox, source.path)
    name = "" if found.name in ("/", ".", "..") else found.name
    if target == STREAM:
        archive = client.download(table.FILE_PACK, {"path": source.path, "name": name}, id=source.sandbox)
        for piece in meter.counted(archive.pieces()):
            view = memoryview(piece)
            while view:
                view = view[os.write(1, view) :]
        return STREAM
    there = Path(target)
    is_there = there.is_dir() if there.exists() else None
    place = placed(source.path, target, is_dir=found.is_dir, target_is_dir=is_there)
    above = Path(place).absolute().parent
    if not above.is_dir():
        raise NotFound(f"there is no directory {above} on this machine", hint="make it first", code="no-such-file")
    if found.is_dir:
        archive = client.download(table.FILE_PACK, {"path": source.path}, id=source.sandbox)
        with packed_by_a_stranger(), on_this_machine():
            unpack(meter.counted(archive.pieces()), place, on_left_out=meter.leave_out)
    else:
        content = client.download(table.FILE_READ, {"path": source.path}, id=source.sandbox)
        mode = int(content.head.get("x-file-mode", "0644"), 8) & PERMISSIONS
        with on_this_machine():
            _save(meter.counted(content.pieces(), found.size), Path(place), mode)
    return place


def _save(pieces: Iterator[bytes], file: Path, mode: int) -> None:
    """Write pieces to a new file that takes its name when it is complete."""
    draft = file.with_name(f".bhatti-tmp-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as written:
            for piece in pieces:
                written.write(piece)
        draft.chmod(mode)
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
