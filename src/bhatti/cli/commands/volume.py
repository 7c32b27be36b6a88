"""`bhatti volume create`, `ls`, `inspect`, `rm`, `resize` and `clone`."""

import click

from bhatti.cli import output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.cli.sizes import mib
from bhatti.errors import InvalidRequest
from bhatti.operations import table, types


@click.group(cls=Aliased)
def volume() -> None:
    """Make, list, grow, clone and remove volumes: disks that outlive sandboxes.

    Example: bhatti volume create data --size 10G
    """


@volume.command()
@click.argument("name")
@click.option("--size", metavar="SIZE", help="In MiB, or with M, G or T behind it; 1G if not given.")
@json_option
@quiet_option
def create(name: str, size: str | None, as_json: bool, quiet: bool) -> None:
    """Make an empty volume. It takes space only for what is written to it.

    Without a size, one that is there already will do.

    Example: bhatti volume create data --size 10G
    """
    request = types.VolumeCreate(name=name, size_mb=None if size is None else size_mib(size))
    _tell(client().call(table.VOLUME_CREATE, request), "created", as_json=as_json, quiet=quiet)


@volume.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List the volumes.

    Example: bhatti volume ls
    """
    found = client().call(table.VOLUME_LIST)
    headings = ("NAME", "SIZE", "USED", "STATUS", "SANDBOXES", "AGE")
    listed(found, headings, _row, as_json=as_json, names=(lambda entry: entry.name) if quiet else None)


def _row(found: types.Volume) -> tuple[str, ...]:
    users = ",".join(use.sandbox + (":ro" if use.read_only else "") for use in found.attached)
    return (
        found.name,
        output.size(found.size_mb),
        "-" if found.used_mb is None else output.size(found.used_mb),
        found.status,
        users or "-",
        output.age(found.created_at),
    )


@volume.command()
@click.argument("name")
@json_option
def inspect(name: str, as_json: bool) -> None:
    """Show one volume and the sandboxes that have it.

    Example: bhatti volume inspect data
    """
    found = client().call(table.VOLUME_GET, name=name)
    if as_json:
        print_json(found)
        return
    output.pairs(
        [
            ("name", found.name),
            ("status", found.status),
            ("size", output.size(found.size_mb)),
            ("used", "-" if found.used_mb is None else output.size(found.used_mb)),
            ("created", f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC, {output.age(found.created_at)} ago"),
            *(
                ("sandbox", f"{use.sandbox} at {use.mount}{', read-only' if use.read_only else ''}")
                for use in found.attached
            ),
        ]
    )


@volume.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Do not mind volumes that are not there.")
@json_option
@quiet_option
def rm(names: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """Remove volumes that no sandbox has, and what is in them.

    One that fails does not keep the others from going; the first failure is told at the end.

    Example: bhatti volume rm data
    """
    caller = client()

    def remove(name: str) -> str:
        return caller.call(table.VOLUME_REMOVE, name=name).status

    removed(names, remove, "deleted", force=force, as_json=as_json, quiet=quiet)


@volume.command()
@click.argument("name")
@click.argument("size")
@json_option
@quiet_option
def resize(name: str, size: str, as_json: bool, quiet: bool) -> None:
    """Make a volume larger that no sandbox has.

    Example: bhatti volume resize data 20G
    """
    request = types.VolumeResize(size_mb=size_mib(size))
    _tell(client().call(table.VOLUME_RESIZE, request, name=name), "resized", as_json=as_json, quiet=quiet)


@volume.command()
@click.argument("name")
@click.argument("new")
@json_option
@quiet_option
def clone(name: str, new: str, as_json: bool, quiet: bool) -> None:
    """Make a volume with what is in another one, to which no sandbox writes.

    Example: bhatti volume clone data data-before-the-upgrade
    """
    request = types.VolumeClone(name=new)
    _tell(client().call(table.VOLUME_CLONE, request, name=name), "created", as_json=as_json, quiet=quiet)


def _tell(found: types.Volume, done: str, *, as_json: bool, quiet: bool) -> None:
    text = found.name if quiet else f"{found.name}\t{output.size(found.size_mb)}\t{done}"
    answer(found, text, as_json=as_json)


def size_mib(text: str) -> int:
    """Return `10G` and the like as MiB; raises `InvalidRequest` (code `bad-size`)."""
    size = mib(text) or 0
    if not 1 <= size <= 1 << 20:
        raise InvalidRequest(f"{text!r} is not a size from 1M to 1T", hint="for example 512M or 10G", code="bad-size")
    return size


COMMANDS = {"volume": volume}
