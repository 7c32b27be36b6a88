"""`bhatti publish` and `bhatti unpublish`."""

import click

from bhatti.cli import output
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.commands.port import pair
from bhatti.cli.session import client, json_option, quiet_option
from bhatti.errors import InvalidRequest
from bhatti.operations import table, types


@click.command()
@click.argument("name", required=False)
@click.argument("port", required=False)
@click.option("-a", "--alias", metavar="ALIAS", help="The name in its address; the sandbox's own if not given.")
@json_option
@quiet_option
def publish(name: str | None, port: str | None, alias: str | None, as_json: bool, quiet: bool) -> None:
    """Publish a port of a sandbox, and print where.

    Whoever knows the address reaches that port, without a key, and wakes the sandbox. Without PORT, what is published
    of the sandbox is listed; without NAME, what is published of all.

    Example: bhatti publish agent-1 8000 --alias preview
    """
    if name is not None and port is not None:
        request = types.PublishRequest(port=_port(port), alias=alias)
        found = client().call(table.PUBLISH, request, id=name)
        answer(found, found.url or found.alias, as_json=as_json)
        return
    if alias is not None:
        raise InvalidRequest("an alias is given to a port", hint="bhatti publish NAME PORT --alias ALIAS")
    everything = client().call(table.PUBLISH_LIST_ALL) if name is None else client().call(table.PUBLISH_LIST, id=name)
    names = (lambda one: one.alias) if quiet else None
    listed(everything, ("SANDBOX", "PORT", "URL", "AGE"), _row, as_json=as_json, names=names)


def _row(found: types.Publication) -> tuple[str, ...]:
    return found.sandbox, str(found.port), found.url or f"{found.alias} (no gateway)", output.age(found.created_at)


@click.command()
@click.argument("name")
@click.argument("ports", nargs=-1, required=True, metavar="PORT...")
@click.option("-f", "--force", is_flag=True, help="Do not mind ports that are not published.")
@json_option
@quiet_option
def unpublish(name: str, ports: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """Publish ports of a sandbox no more. Whoever is served over them is cut off.

    Example: bhatti unpublish agent-1 8000
    """
    caller = client()

    def remove(port: str) -> str:
        caller.call(table.UNPUBLISH, id=name, port=str(_port(port)))
        return "unpublished"

    removed(ports, remove, "unpublished", force=force, as_json=as_json, quiet=quiet)


def _port(text: str) -> int:
    if ":" in text:
        raise InvalidRequest(
            f"{text!r} is not a port", hint="for example bhatti publish agent-1 8000", code="invalid-port"
        )
    return pair(text)[1]


COMMANDS = {"publish": publish, "unpublish": unpublish}
