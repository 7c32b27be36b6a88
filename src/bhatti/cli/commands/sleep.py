"""`bhatti edit`, `pause` and `resume`."""

import click

from bhatti.cli.answers import answer
from bhatti.cli.session import client, idle_options, idle_seconds, json_option, labels
from bhatti.operations import table, types


@click.command()
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="Call it otherwise; its hostname inside stays.")
@click.option("--keep-hot/--no-keep-hot", default=None, help="Never let it sleep, or let it.")
@click.option("--label", "labelled", multiple=True, metavar="KEY=VALUE", help="Add or change a label; repeatable.")
@click.option("--unlabel", multiple=True, metavar="KEY", help="Remove a label; repeatable.")
@idle_options
@json_option
def edit(
    name: str,
    new_name: str | None,
    keep_hot: bool | None,
    labelled: tuple[str, ...],
    unlabel: tuple[str, ...],
    warm_after: str | None,
    cold_after: str | None,
    as_json: bool,
) -> None:
    """Change what can be changed of a sandbox at any time. One that sleeps sleeps on.

    Example: bhatti edit agent-1 --label team=red --cold-after never
    """
    from msgspec import UNSET  # what is not given stays as it is

    request = types.SandboxEdit(
        name=new_name,
        keep_hot=keep_hot,
        labels_add=labels(labelled),
        labels_remove=list(unlabel),
        warm_after_s=UNSET if warm_after is None else idle_seconds("--warm-after", warm_after),
        cold_after_s=UNSET if cold_after is None else idle_seconds("--cold-after", cold_after),
    )
    sandbox = client().call(table.SANDBOX_EDIT, request, id=name)
    answer(sandbox, f"{sandbox.name}: {sandbox.thermal_reason or sandbox.status}", as_json=as_json)


@click.command()
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:
    """Halt a sandbox: it keeps its memory and does nothing until any command calls it.

    Commands that are under way wait with it. What is typed into one of its terminals, given to a command as input or
    sent to one of its ports lets it run on.

    Example: bhatti pause agent-1
    """
    sandbox = client().call(table.SANDBOX_PAUSE, id=name)
    answer(sandbox, "paused", as_json=as_json)


@click.command()
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Let a paused sandbox run on.

    Example: bhatti resume agent-1
    """
    sandbox = client().call(table.SANDBOX_RESUME, id=name)
    answer(sandbox, "resumed", as_json=as_json)


COMMANDS = {"edit": edit, "pause": pause, "resume": resume}
