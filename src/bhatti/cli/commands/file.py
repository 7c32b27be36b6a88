"""`bhatti file read`, `write` and `ls`: bytes through standard input and output, never held whole."""

import os
import stat
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from bhatti.cli.answers import answer, listed
from bhatti.cli.session import client, json_option, print_json
from bhatti.operations import table, types

PIECE_BYTES = 256 << 10


@click.group()
def file() -> None:
    """Read, write and list files of a sandbox.

    Example: bhatti file write agent-1 /workspace/data.csv < data.csv
    """


@file.command()
@click.argument("name")
@click.argument("path")
@click.option("--offset", type=int, default=0, metavar="LINE", help="Begin at this line; the first is 1.")
@click.option("--limit", type=int, default=0, metavar="LINES", help="Read so many lines at most.")
@click.option("--max-bytes", type=int, default=0, metavar="BYTES", help="Read so many bytes at most.")
@json_option
def read(name: str, path: str, offset: int, limit: int, max_bytes: int, as_json: bool) -> None:
    """Write a file of the sandbox to standard output.

    With --json, an object with its size, mode and content (undecodable bytes replaced).

    Example: bhatti file read agent-1 /etc/os-release
    """
    numbers = {"offset": offset, "limit": limit, "max_bytes": max_bytes}
    query = {"path": path, **{key: str(value) for key, value in numbers.items() if value}}
    response = client().download(table.FILE_READ, query, id=name)
    if as_json:
        content = response.read().decode(errors="replace")
        size, mode = int(response.head.get("x-file-size", "0")), response.head.get("x-file-mode")
        print_json({"path": path, "size": size, "mode": mode, "content": content})
        return
    sys.stdout.flush()
    for piece in response.pieces():
        view = memoryview(piece)
        while view:
            view = view[os.write(1, view) :]


@file.command()
@click.argument("name")
@click.argument("path")
@click.option("--mode", default=None, metavar="OCTAL", help="Mode of the new file; 0644 if not given.")
@json_option
def write(name: str, path: str, mode: str | None, as_json: bool) -> None:
    """Write standard input to a file of the sandbox.

    The file appears whole or not at all; missing directories are made.

    Example: echo hello | bhatti file write agent-1 /workspace/hello.txt
    """
    query = {"path": path, **({"mode": mode} if mode else {})}
    result = client().upload(table.FILE_WRITE, _input(), query, id=name)
    answer(result, "ok", as_json=as_json)


@file.command()
@click.argument("name")
@click.argument("path")
@json_option
def ls(name: str, path: str, as_json: bool) -> None:
    """List a directory of the sandbox.

    Example: bhatti file ls agent-1 /workspace
    """
    response = client().download(table.FILE_READ, {"path": path, "ls": "true"}, id=name)
    entries = msgspec.json.decode(response.read(), type=list[types.FileEntry])
    listed(entries, ("MODE", "SIZE", "MODIFIED", "NAME"), _row, as_json=as_json)


def _row(entry: types.FileEntry) -> tuple[str, ...]:
    kind = stat.S_IFDIR if entry.is_dir else stat.S_IFREG
    mode = stat.filemode(kind | int(entry.mode or "0", 8))
    return mode, str(entry.size), time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.mtime)), entry.name


def _input() -> Iterator[bytes]:
    while piece := os.read(0, PIECE_BYTES):
        yield piece


COMMANDS = {"file": file}
