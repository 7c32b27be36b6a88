"""`bhatti mcp`: sandboxes for agents that speak the Model Context Protocol."""

import importlib.util

import click

from bhatti.cli.session import json_option, print_json
from bhatti.errors import InvalidRequest, MissingDependency


@click.command()
@click.option("--http", metavar="[HOST:]PORT", help="Serve HTTP on this machine, not standard input and output.")
@json_option
def mcp(http: str | None, as_json: bool) -> None:
    """Give sandboxes to an agent, by the Model Context Protocol.

    Meant to be started by the agent's own program, whose configuration names this command; docs/mcp.md says how. What
    the agent makes is destroyed when this ends, unless it asks to keep it. With --http and --json, the address is told
    as an object.

    Example: bhatti mcp --http 8808
    """
    if importlib.util.find_spec("mcp") is None:
        raise MissingDependency(
            "the Model Context Protocol is not installed: there is no package 'mcp'",
            hint="pip install 'bhatti[mcp]'",
            code="extra-missing",
        )
    host, port = _address(http) if http is not None else ("", 0)
    from bhatti.cli.autostart import client_of_running_daemon

    client_of_running_daemon()
    import anyio

    from bhatti.mcp.serving import over_http, over_stdio

    if http is None:
        anyio.run(over_stdio)
    else:
        anyio.run(over_http, host, port, (lambda url: print_json({"url": url})) if as_json else click.echo)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65_535:
        raise InvalidRequest(f"{text!r} is no address", hint="for example --http 8808", code="bad-address")
    return host.strip("[]") or "127.0.0.1", int(port)


COMMANDS = {"mcp": mcp}
