"""`bhatti image build`, `import`, `pull`, `ls`, `rm` and `prune`.

All but the last work without a daemon too: images come first. What can go, only the daemon of the sandboxes knows.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from bhatti.cli import offline, output, progress
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import BhattiError, InvalidRequest, Unavailable
from bhatti.operations import table, types
from bhatti.operations.operation import Operation

Made = types.ImageBuild | types.ImageImport | types.ImagePull

OPERATIONS: dict[type[Made], Operation[Any, types.Image]] = {
    types.ImageBuild: table.IMAGE_BUILD,
    types.ImageImport: table.IMAGE_IMPORT,
    types.ImagePull: table.IMAGE_PULL,
}


detach_option = click.option(
    "-d", "--detach", is_flag=True, help="Print the id of the task and return; see `bhatti task wait`."
)


@click.group(cls=Aliased)
def image() -> None:
    """Build, take over, list and remove images.

    Example: bhatti image build
    """


@image.command()
@click.argument("name", default="base")
@click.option("--refresh", is_flag=True, help="Ask for the packages again and take newer ones.")
@detach_option
@json_option
@quiet_option
def build(name: str, refresh: bool, detach: bool, as_json: bool, quiet: bool) -> None:
    """Build what is missing of an image; nothing, if all of it is there.

    Interrupted, it can be run again and goes on from what was finished.

    Example: bhatti image build base
    """
    request = types.ImageBuild(name=name, refresh=refresh)
    _make("image build", request, detach=detach, as_json=as_json, quiet=quiet)


@image.command("import")
@click.argument("source")
@click.option("--name", help="What to call it here; by default as it is called there.")
@detach_option
@json_option
@quiet_option
def import_(source: str, name: str | None, detach: bool, as_json: bool, quiet: bool) -> None:
    """Take over an image from a file or directory: docker-archive:FILE, oci-archive:FILE or oci:DIR.

    A `:TAG` after the path chooses one of several. Paths are those of the machine that the daemon runs on.

    Example: bhatti image import docker-archive:app.tar --name app
    """
    kind, colon, path = source.partition(":")
    request = types.ImageImport(source=f"{kind}:{Path(path).absolute()}" if colon and path else source, name=name)
    _make("image import", request, detach=detach, as_json=as_json, quiet=quiet)


@image.command()
@click.argument("reference")
@click.option("--name", help="What to call it here; by default alpine:3.19 becomes alpine-3.19.")
@click.option("--insecure", is_flag=True, help="Allow plain HTTP to another machine.")
@click.option("--username", default="", help="Who you are at the registry; otherwise Docker's configuration says it.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@detach_option
@json_option
@quiet_option
def pull(
    reference: str,
    name: str | None,
    insecure: bool,
    username: str,
    password_stdin: bool,
    detach: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Take over an image from a registry.

    Interrupted, it can be run again and goes on with what was downloaded.

    Example: bhatti image pull alpine:3.19
    """
    if password_stdin and not username:
        raise InvalidRequest(
            "--password-stdin needs --username",
            hint="for example bhatti image pull REFERENCE --username NAME --password-stdin",
            code="usage",
        )
    password = ""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif username:
        password = click.prompt(f"Password of {username}", hide_input=True, err=True)
    request = types.ImagePull(reference=reference, name=name, insecure=insecure, username=username, password=password)
    _make("image pull", request, detach=detach, as_json=as_json, quiet=quiet)


def _make(title: str, request: Made, *, detach: bool, as_json: bool, quiet: bool) -> None:
    if detach:
        begun = client().call(table.TASK_START, _start(request))
        answer(begun, begun.id, as_json=as_json)
        return
    made: types.Image | None = None
    with progress.shown(title, quiet=quiet or as_json) as report:
        for event in _build_events(request):
            if event.image is not None:
                made = event.image
            else:
                report(event.stage, event.done, event.total)
    if made is None:
        raise BhattiError(f"{title} ended without an image", hint="run it again; finished parts are kept")
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(made.digest)
    else:
        output.pairs(
            [
                ("image", made.name),
                ("source", made.source),
                ("kernel", made.kernel),
                ("size", output.size(made.stored_bytes >> 20)),
                ("digest", made.digest),
            ]
        )


def _start(request: Made) -> types.TaskStart:
    if isinstance(request, types.ImageBuild):
        return types.TaskStart(build=request)
    return types.TaskStart(import_=request) if isinstance(request, types.ImageImport) else types.TaskStart(pull=request)


def _build_events(request: Made) -> Iterator[types.BuildEvent]:
    try:
        yield from client().stream(OPERATIONS[type(request)], request, types.BuildEvent)
    except Unavailable as err:
        if not offline.no_daemon(err):
            raise
        for line in _offline_lines(request):
            yield msgspec.json.decode(line, type=types.BuildEvent)


def _offline_lines(request: Made) -> Iterator[bytes]:
    document = msgspec.json.encode(request)
    if isinstance(request, types.ImagePull):  # it may hold a password
        return offline.lines("image-pull", given=document)
    return offline.lines("image-import" if isinstance(request, types.ImageImport) else "image-build", document.decode())


@image.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List the images.

    Example: bhatti image ls
    """
    try:
        images = client().call(table.IMAGE_LIST)
    except Unavailable as err:
        if not offline.no_daemon(err):
            raise
        images = offline.answer("image-list", list[types.Image])
    headings = ("NAME", "SOURCE", "KERNEL", "SIZE", "AGE", "DIGEST")
    listed(images, headings, _row, as_json=as_json, names=(lambda found: found.name) if quiet else None)


def _row(found: types.Image) -> tuple[str, ...]:
    size = output.size(found.stored_bytes >> 20)
    return found.name, found.source, found.kernel, size, output.age(found.created_at), found.digest[:19]


@image.command()
@click.argument("name")
@json_option
@quiet_option
def rm(name: str, as_json: bool, quiet: bool) -> None:
    """Remove an image that no sandbox uses.

    Example: bhatti image rm base
    """
    try:
        outcome = client().call(table.IMAGE_REMOVE, name=name)
    except Unavailable as err:
        if not offline.no_daemon(err):
            raise
        outcome = offline.answer("image-remove", types.Outcome, name)
    answer(outcome, outcome.status, as_json=as_json, quiet=quiet)


@image.command()
@json_option
@quiet_option
def prune(as_json: bool, quiet: bool) -> None:
    """Free the disk of what was replaced and removed. What a sandbox needs stays, asleep or awake, and all images do.

    Example: bhatti image prune
    """
    done = client().call(table.IMAGE_PRUNE)
    answer(done, f"{output.size(done.freed_bytes >> 20)} freed", as_json=as_json, quiet=quiet)


COMMANDS = {"image": image}
