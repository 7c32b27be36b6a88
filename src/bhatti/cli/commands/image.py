"""`bhatti image build`, `ls` and `rm`. They work without a daemon too: building comes first on a new machine."""

from collections.abc import Iterator

import click
import msgspec

from bhatti.cli import offline, output, progress
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import BhattiError, Unavailable
from bhatti.operations import table, types


@click.group()
def image() -> None:
    """Build, list and remove images.

    Example: bhatti image build
    """


@image.command()
@click.argument("name", default="base")
@click.option("--refresh", is_flag=True, help="Ask for the packages again and take newer ones.")
@json_option
@quiet_option
def build(name: str, refresh: bool, as_json: bool, quiet: bool) -> None:
    """Build what is missing of an image; nothing, if all of it is there.

    Interrupted, it can be run again and goes on from what was finished.

    Example: bhatti image build base
    """
    made: types.Image | None = None
    with progress.shown("image build", quiet=quiet or as_json) as report:
        for event in _build_events(types.ImageBuild(name=name, refresh=refresh)):
            if event.image is not None:
                made = event.image
            else:
                report(event.stage, event.done, event.total)
    if made is None:
        raise BhattiError("the build ended without an image", hint="run it again; finished parts are kept")
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


def _build_events(request: types.ImageBuild) -> Iterator[types.BuildEvent]:
    try:
        yield from client().stream(table.IMAGE_BUILD, request, types.BuildEvent)
    except Unavailable as err:
        if not offline.no_daemon(err):
            raise
        for line in offline.lines("image-build", msgspec.json.encode(request).decode()):
            yield msgspec.json.decode(line, type=types.BuildEvent)


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
    if as_json:
        print_json(images)
    elif quiet:
        for found in images:
            click.echo(found.name)
    else:
        headings = ("NAME", "SOURCE", "KERNEL", "SIZE", "AGE", "DIGEST")
        output.table(headings, [_row(found) for found in images])


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
    if as_json:
        print_json(outcome)
    elif not quiet:
        click.echo(outcome.status)


COMMANDS = {"image": image}
