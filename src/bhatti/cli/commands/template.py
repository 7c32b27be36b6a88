"""`bhatti template create`, `ls`, `inspect` and `rm`."""

import click

from bhatti.cli import output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.outfits import outfit, outfit_options
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.operations import table, types

WORDS = ("engine", "image", "cpus", "user", "init", "userdata")
"""What a template may say of itself in one word each."""


@click.group(cls=Aliased)
def template() -> None:
    """Give what sandboxes are created with a name (`bhatti create --template`).

    Example: bhatti template create agent --memory 1024 --secret GITHUB_TOKEN
    """


@template.command()
@click.argument("name")
@outfit_options
@click.option("--replace", is_flag=True, help="Put it in the place of the one of that name.")
@json_option
@quiet_option
def create(name: str, replace: bool, as_json: bool, quiet: bool, **given: object) -> None:
    """Make a template. What `bhatti create` says itself wins over what its template says.

    It names volumes and secrets, which have to be there when a sandbox is created with it.

    Example: bhatti template create agent --memory 1024 --secret GITHUB_TOKEN
    """
    request = types.TemplateSet(name=name, **outfit(given))
    if replace:
        made = client().call(table.TEMPLATE_REPLACE, request, template=name)
    else:
        made = client().call(table.TEMPLATE_CREATE, request)
    text = made.id if quiet else f"{made.id}\t{made.name}\t{'replaced' if replace else 'created'}"
    answer(made, text, as_json=as_json)


@template.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List your templates.

    Example: bhatti template ls
    """
    found = client().call(table.TEMPLATE_LIST)
    headings = ("NAME", "ID", "IMAGE", "CPUS", "MEMORY", "AGE")
    listed(found, headings, _row, as_json=as_json, names=(lambda one: one.name) if quiet else None)


def _row(found: types.Template) -> tuple[str, ...]:
    return (
        found.name,
        found.id,
        found.image or "-",
        "-" if found.cpus is None else str(found.cpus),
        "-" if found.memory_mb is None else output.size(found.memory_mb),
        output.age(found.created_at),
    )


@template.command()
@click.argument("name")
@json_option
def inspect(name: str, as_json: bool) -> None:
    """Show what a template says, but for what is in its files.

    Example: bhatti template inspect agent
    """
    found = client().call(table.TEMPLATE_GET, template=name)
    if as_json:
        print_json(found)
        return
    asked = found.secrets or ()
    rows = [
        ("name", found.name),
        ("id", found.id),
        ("created", f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        *((word, str(getattr(found, word))) for word in WORDS if getattr(found, word)),
        *((w, output.size(mib)) for w, mib in (("memory", found.memory_mb), ("disk", found.disk_size_mb)) if mib),
        *(("env", f"{key}={value}") for key, value in found.env.items()),
        *(("label", f"{key}={value}") for key, value in found.labels.items()),
        *(("file", file.guest_path) for file in found.files),
        *(("volume", f"{mount.name} at {mount.target or mount.mount}") for mount in found.volumes),
        *(("volume", f"{mount.volume_name or 'one of its own'} at {mount.target}") for mount in found.mounts),
        *(("secret", one if isinstance(one, str) else _placed(one)) for one in asked),
    ]
    output.pairs(rows)


def _placed(wanted: types.SecretWanted) -> str:
    return f"{wanted.name} as {wanted.file or wanted.env or wanted.name}"


@template.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Do not mind templates that are not there.")
@json_option
@quiet_option
def rm(names: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """Remove templates. Sandboxes that were created with them stay.

    Example: bhatti template rm agent
    """
    caller = client()

    def remove(name: str) -> str:
        return caller.call(table.TEMPLATE_REMOVE, template=name).status

    removed(names, remove, "deleted", force=force, as_json=as_json, quiet=quiet)


COMMANDS = {"template": template}
