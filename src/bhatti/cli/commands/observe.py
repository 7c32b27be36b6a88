"""`bhatti events` and `backup`."""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from bhatti.cli.answers import answer, listed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import Conflict, ErrorBody, OutOfSpace, Unavailable, from_body
from bhatti.operations import table, types


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--since", type=int, metavar="ID", help="Only what came after the event with this id.")
@click.option("--limit", type=int, metavar="N", help="So many events at most; 100 if not given.")
@json_option
@quiet_option
def events(name: str | None, follow: bool, since: int | None, limit: int | None, as_json: bool, quiet: bool) -> None:
    """Show what happened to the sandboxes, or to one of them, the latest last.

    With --json, an array; with --follow and --json, one object a line as it happens.

    Example: bhatti events --follow agent-1
    """
    given = {"sandbox": name, "since": since, "limit": limit}
    query = {key: str(value) for key, value in given.items() if value is not None}
    found = _list(query)
    if not follow:
        if name is not None and not found and since is None:
            client().call(table.SANDBOX_GET, id=name)  # nothing is told of it because there is none
        names = (lambda event: str(event.id)) if quiet else None
        listed(found, ("ID", "TIME", "SANDBOX", "WHAT", "DETAIL"), _row, as_json=as_json, names=names)
        return
    for event in found:
        _tell(event, as_json, quiet)
    # From the last one that was seen, so that nothing falls between the list and the stream.
    last = max((event.id for event in found), default=since)
    for event in _follow(query | ({"since": str(last)} if last is not None else {})):
        _tell(event, as_json, quiet)


def _list(query: dict[str, str]) -> list[types.LoggedEvent]:
    return msgspec.json.decode(client().download(table.EVENT_LIST, query).read(), type=list[types.LoggedEvent])


def _follow(query: dict[str, str]) -> Iterator[types.LoggedEvent]:
    response = client().download(table.EVENT_LIST, query | {"follow": "true"})
    for line in _lines(response.pieces()):
        said = msgspec.json.decode(line, type=types.NewsEvent)
        if said.type == "error":
            raise from_body(0, ErrorBody(said.error or "", said.code or "internal", said.hint, None, said.kind))
        if said.type == "missed":
            click.echo(f"read too slowly: some events up to {said.until} were left out", err=True)
        if said.event is not None:
            yield said.event


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    buffer = b""
    for piece in pieces:
        *lines, buffer = (buffer + piece).split(b"\n")
        yield from lines


def _tell(event: types.LoggedEvent, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(event)
    elif quiet:
        click.echo(event.id)
    else:
        number, moment, sandbox, kind, detail = _row(event)
        click.echo(f"{number:>6}  {moment}  {sandbox:<20}  {kind:<14}  {detail}".rstrip())


def _row(event: types.LoggedEvent) -> tuple[str, str, str, str, str]:
    detail = event.detail.splitlines()[0] if event.detail else ""
    local = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(event.id), local, event.sandbox or event.sandbox_id or "-", event.kind, detail


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@json_option
def backup(file: Path, force: bool, as_json: bool) -> None:
    """Copy the daemon's store to FILE, as it is at one moment, while the daemon goes on.

    FILE appears whole or not at all, for its owner alone: it holds the keys of the sandboxes. Their disks and memory
    are not in it.

    Example: bhatti backup /var/backups/bhatti.db --force
    """
    if file.exists() and not force:
        raise Conflict(f"{file} exists", hint="choose another name, or replace it with --force", code="file-exists")
    size = _save(client().download(table.BACKUP, {}).pieces(), file)
    answer({"file": str(file), "size_bytes": size}, f"{file}\t{size} bytes", as_json=as_json)


def _save(pieces: Iterable[bytes], file: Path) -> int:
    """Write pieces to a new file that takes its name when it is complete and on the disk; return its size."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600, exist_ok=False)
        with draft.open("wb") as written:
            for piece in pieces:
                written.write(piece)
            written.flush()
            os.fsync(written.fileno())
        draft.rename(file)
        return file.stat().st_size
    except OSError as err:
        error = OutOfSpace if err.errno == 28 else Unavailable
        raise error(f"{file} cannot be written: {err.strerror}", hint="choose another directory") from err
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


COMMANDS = {"events": events, "backup": backup}
