"""`bhatti port ls` and `bhatti forward`."""

import contextlib
import select
import signal
from collections.abc import Sequence

import click

from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import listed
from bhatti.cli.failures import report
from bhatti.cli.session import client, endpoint, json_option, print_json, quiet_option
from bhatti.errors import InvalidRequest
from bhatti.operations import table, types

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.group(cls=Aliased)
def port() -> None:
    """Show the ports on which programs in sandboxes listen.

    Example: bhatti port ls agent-1
    """


@port.command()
@click.argument("name", required=False)
@json_option
@quiet_option
def ls(name: str | None, as_json: bool, quiet: bool) -> None:
    """List the ports of one sandbox, or of all that are awake.

    Example: bhatti port ls agent-1
    """
    found: Sequence[types.ListeningPort]
    found = client().call(table.PORT_LIST_ALL) if name is None else client().call(table.PORT_LIST, id=name)

    def row(one: types.ListeningPort) -> tuple[str, ...]:
        sandbox = one.sandbox if isinstance(one, types.SandboxPort) else name or ""
        return sandbox, str(one.container_port), " ".join(one.addresses)

    names = (lambda one: str(one.container_port)) if quiet else None
    listed(found, ("SANDBOX", "PORT", "ADDRESSES"), row, as_json=as_json, names=names)


@click.command()
@click.argument("name")
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]PORT...")
@json_option
def forward(name: str, ports: tuple[str, ...], as_json: bool) -> None:
    """Have ports of a sandbox on this machine, until interrupted.

    Connections to port LOCAL of 127.0.0.1 are connections to PORT of the sandbox, which is woken for them. Without
    LOCAL it is the same number; 0 is any that is free.

    Example: bhatti forward agent-1 8080:80 5432
    """
    from bhatti.sdk.forwarding import Forward  # and threads with it, which no other command needs
    from bhatti.sdk.signals import caught

    wanted = [pair(text) for text in ports]
    sandbox = client().call(table.SANDBOX_GET, id=name)  # that there is none is told now, not at the first connection
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(caught(ENDING))
        forwards = [
            stack.enter_context(Forward(endpoint(), sandbox.id, there, here, on_error=report)) for here, there in wanted
        ]
        if as_json:
            print_json([{"host": one.host, "local_port": one.local_port, "port": one.port} for one in forwards])
        else:
            for one in forwards:
                click.echo(f"{one.host}:{one.local_port}\t{sandbox.name}:{one.port}")
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.poll()


def pair(text: str) -> tuple[int, int]:
    """Return the local port and the sandbox's of `[LOCAL:]PORT`; raises `InvalidRequest` (code `invalid-port`)."""
    local, colon, there = text.rpartition(":")
    numbers = [int(part) if part.isascii() and part.isdigit() and len(part) <= 5 else -1 for part in (local, there)]
    here = numbers[0] if colon else numbers[1]
    if not (0 <= here <= 65_535 and 1 <= numbers[1] <= 65_535):
        raise InvalidRequest(f"{text!r} is not [LOCAL:]PORT", hint="for example 8000 or 9000:8000", code="invalid-port")
    return here, numbers[1]


COMMANDS = {"port": port, "forward": forward}
