"""What every command has: where the daemon is, how to answer, and the options for both."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from bhatti.cli.sizes import size
from bhatti.errors import InvalidRequest
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import Endpoint, find

F = TypeVar("F", bound=Callable[..., Any])


def _asked_for_json(context: click.Context, option: click.Parameter, given: bool) -> bool:
    """Say whether the answer is to be JSON: `--json` may stand before the command as well."""
    return given or context.find_root().params.get("as_json", False)


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_asked_for_json, help="Answer as JSON; errors too."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Answer with ids alone, or not at all.")
env_option = click.option(
    "-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable; repeatable."
)


def client() -> Client:
    """Return a client of this user's daemon, closed when the command ends."""
    return click.get_current_context().with_resource(Client(endpoint()))


def endpoint() -> Endpoint:
    """Return where the daemon is."""
    return find()


def shape_options(command: F) -> F:
    """Add the options that say what a sandbox is like."""
    for option in reversed(
        (
            click.option("--image", metavar="NAME", help="The image to boot; the base image if not given."),
            click.option("--cpus", type=int, metavar="N", help="Virtual CPUs."),
            click.option("--memory", type=size, metavar="SIZE", help="Memory in MiB, or with M, G or T behind it."),
            click.option("--disk", type=size, metavar="SIZE", help="What it may write, in MiB or with M, G or T."),
            env_option,
        )
    ):
        command = option(command)
    return command


def idle_options(command: F) -> F:
    """Add the options that say when a sandbox sleeps."""
    for option in reversed(
        (
            click.option("--warm-after", metavar="SECONDS", help="Idle time before it is paused; `never`, `default`."),
            click.option("--cold-after", metavar="SECONDS", help="Idle time before it sleeps; `never`, `default`."),
        )
    ):
        command = option(command)
    return command


def idle_seconds(option: str, text: str) -> float | None:
    """Return an idle time as the API has it; raises `InvalidRequest` (code `bad-idle-time`)."""
    if text in ("never", "default"):
        return 0.0 if text == "never" else None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(
            f"{option}: {text!r} is not an idle time",
            hint="give seconds, `never`, or `default` for what the daemon is set to",
            code="bad-idle-time",
        )
    return seconds


def labels(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return `KEY=VALUE` texts as a mapping; raises `InvalidRequest` (code `bad-label`)."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{pair!r} is not KEY=VALUE", hint="for example --label team=red", code="bad-label")
        found[key] = value
    return found


def environment(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return `NAME=VALUE` texts as a mapping; raises `InvalidRequest` (code `bad-environment`)."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(
                f"{pair!r} is not NAME=VALUE", hint="for example --env TERM=dumb", code="bad-environment"
            )
        found[name] = value
    return found


def print_json(value: object) -> None:
    """Print `value` as one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
