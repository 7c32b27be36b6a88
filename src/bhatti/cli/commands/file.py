"""`bhatti file`: files of a sandbox read, written, copied and looked after, never held whole."""

import os
import stat
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from bhatti.cli import output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.places import Places
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.operations import table, types

PIECE_BYTES = 256 << 10
HEADINGS = ("MODE", "SIZE", "MODIFIED", "NAME")


@click.group(cls=Aliased)
def file() -> None:
    """Copy, read, write, list, move, remove and watch files of a sandbox.

    Relative paths of a sandbox begin where its commands run: in /workspace, if the image has it.

    Example: bhatti file cp src agent-1:/workspace
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
    caller = client()
    path = Places(caller, name).absolute(path)
    query = {"path": path, **{key: str(value) for key, value in numbers.items() if value}}
    response = caller.download(table.FILE_READ, query, id=name)
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
    caller = client()
    query = {"path": Places(caller, name).absolute(path), **({"mode": mode} if mode else {})}
    result = caller.upload(table.FILE_WRITE, _input(), query, id=name)
    answer(result, "ok", as_json=as_json)


@file.command()
@click.argument("name")
@click.argument("path", default=".")
@json_option
@quiet_option
def ls(name: str, path: str, as_json: bool, quiet: bool) -> None:
    """List a directory of the sandbox; without PATH, the one in which its commands run.

    Example: bhatti file ls agent-1 /workspace
    """
    caller = client()
    query = {"path": Places(caller, name).absolute(path), "ls": "true"}
    response = caller.download(table.FILE_READ, query, id=name)
    entries = msgspec.json.decode(response.read(), type=list[types.FileEntry])
    listed(entries, HEADINGS, _row, as_json=as_json, names=(lambda one: one.name) if quiet else None)


def _row(entry: types.FileEntry) -> tuple[str, ...]:
    kind = stat.S_IFDIR if entry.is_dir else stat.S_IFREG
    mode = stat.filemode(kind | int(entry.mode or "0", 8))
    return mode, str(entry.size), time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.mtime)), entry.name


@file.command()
@click.argument("source")
@click.argument("target")
@json_option
@quiet_option
def cp(source: str, target: str, as_json: bool, quiet: bool) -> None:
    """Copy files and directories: NAME:PATH is a path in a sandbox, anything else one of this machine.

    `NAME:` alone is the directory in which its commands run.
    As with cp: into a directory that is there goes the source with its name; with `/.` behind it, what is in it.
    Modes and links stay as they are; sockets, pipes and devices are left out, which is told. `-` is a tar stream on
    standard input or output. No file has its name before all of it is there, and nothing from a sandbox is written
    outside of the target.

    Example: bhatti file cp agent-1:/workspace/results .
    """
    from bhatti.cli.copying import copied  # brings what packs and unpacks, which nobody else here needs

    copy = copied(client(), source, target, quiet=quiet or as_json)
    for what in () if as_json else copy.left_out:
        click.echo(f"left out: {what}", err=True)
    if target != "-":
        answer(copy, f"{copy.target}\t{copy.size_bytes} bytes", as_json=as_json, quiet=quiet)


@file.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
@click.option("-f", "--force", is_flag=True, help="Do not mind what is not there.")
@json_option
@quiet_option
def rm(name: str, paths: tuple[str, ...], recursive: bool, force: bool, as_json: bool, quiet: bool) -> None:
    """Remove files and empty directories of the sandbox.

    One that fails does not keep the others from going; the first failure is told at the end.

    Example: bhatti file rm --recursive agent-1 /workspace/cache
    """
    caller = client()
    caller.call(table.SANDBOX_GET, id=name)  # not there is something else than a file that is not there
    places = Places(caller, name)

    def remove(path: str) -> str:
        query = {"path": places.absolute(path), **({"recursive": "true"} if recursive else {})}
        return caller.ask(table.FILE_REMOVE, query, id=name).status

    removed(paths, remove, "deleted", force=force, as_json=as_json, quiet=quiet)


@file.command()
@click.argument("name")
@click.argument("path")
@click.option("--mode", default="0755", metavar="OCTAL", help="Mode of the new directory; 0755 if not given.")
@json_option
@quiet_option
def mkdir(name: str, path: str, mode: str, as_json: bool, quiet: bool) -> None:
    """Make a directory of the sandbox, and those above it; one that is there will do.

    Example: bhatti file mkdir agent-1 /workspace/results
    """
    caller = client()
    wanted = types.DirectoryMake(path=Places(caller, name).absolute(path), mode=mode)
    done = caller.call(table.FILE_MKDIR, wanted, id=name)
    answer(done, "ok", as_json=as_json, quiet=quiet)


@file.command()
@click.argument("name")
@click.argument("source")
@click.argument("target")
@json_option
@quiet_option
def mv(name: str, source: str, target: str, as_json: bool, quiet: bool) -> None:
    """Move a file or directory of the sandbox; into TARGET, if that is a directory.

    Example: bhatti file mv agent-1 /workspace/draft.txt /workspace/final.txt
    """
    from bhatti.cli.copying import is_directory
    from bhatti.sdk.transfer import placed

    caller = client()
    places = Places(caller, name)
    source, target = places.absolute(source), places.absolute(target)
    place = placed(source, target, is_dir=True, target_is_dir=True) if is_directory(caller, name, target) else target
    done = caller.call(table.FILE_MOVE, types.FileMove(source=source, target=place), id=name)
    answer(done, "ok", as_json=as_json, quiet=quiet)


@file.command("stat")
@click.argument("name")
@click.argument("path")
@json_option
def stat_(name: str, path: str, as_json: bool) -> None:
    """Show what a file of the sandbox is; a link is followed.

    Example: bhatti file stat agent-1 /etc/os-release
    """
    from bhatti.cli.copying import described

    caller = client()
    path = Places(caller, name).absolute(path)
    entry = described(caller, name, path)
    if as_json:
        print_json(entry)
        return
    mode, size, modified, _ = _row(entry)
    output.pairs([("path", path), ("mode", mode), ("size", f"{size} bytes"), ("modified", modified)])


@file.command()
@click.argument("name")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="All that is below it too.")
@click.option("--timeout", metavar="SECONDS", help="End after so long; otherwise at Ctrl-C.")
@json_option
def watch(name: str, path: str, recursive: bool, timeout: str | None, as_json: bool) -> None:
    """Tell what happens to a file or directory of the sandbox, as it happens. The sandbox stays awake.

    With --json, one object a line.

    Example: bhatti file watch --recursive --timeout 60 agent-1 /workspace
    """
    caller = client()
    query = {"path": Places(caller, name).absolute(path), **({"recursive": "true"} if recursive else {})}
    if timeout is not None:
        query["timeout_sec"] = timeout
    for event in caller.stream(table.FILE_WATCH, None, types.FileEvent, query, id=name):
        if as_json:
            print_json(event)
        elif event.type == "change":
            click.echo(f"{event.change:<11}  {event.path}{'/' if event.is_dir else ''}")
        elif event.type in ("ready", "overflow"):
            click.echo("watching" if event.type == "ready" else "some changes were lost: look for yourself", err=True)


def _input() -> Iterator[bytes]:
    while piece := os.read(0, PIECE_BYTES):
        yield piece


COMMANDS = {"file": file}
