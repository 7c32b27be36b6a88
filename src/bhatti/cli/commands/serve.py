"""`bhatti serve`: become the daemon."""

import os
import sys

import click

from bhatti.cli.session import json_option


@click.command()
@click.option("--state-dir", metavar="DIR", help="Where it keeps what outlives it.")
@click.option("--runtime-dir", metavar="DIR", help="Where its socket is.")
@click.option("--engine", metavar="NAME", help="What runs the sandboxes: `qemu` if not given, or `auto`.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much it tells.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="For people, or for programs.")
@click.option("--stop-all", is_flag=True, help="When it stops, end all sandboxes; otherwise they go on without it.")
@json_option
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other setting; repeatable.")
def serve(
    state_dir: str | None,
    runtime_dir: str | None,
    engine: str | None,
    log_level: str | None,
    log_format: str | None,
    stop_all: bool,
    as_json: bool,
    sets: tuple[str, ...],
) -> None:
    """Run the daemon in the foreground, until Ctrl-C or SIGTERM.

    Settings come from /etc/bhatti/config.toml, ~/.config/bhatti/config.toml, the environment (BHATTI_…) and these
    options, the later ones winning; `bhatti config` shows them all. The sandboxes outlive the daemon, and the next one
    takes them over. --json is `--log-format json`: every line that it writes is an object, an error too.

    Example: bhatti serve --log-format json --set defaults.memory_mb=1024
    """
    given = {
        "state_dir": state_dir,
        "runtime_dir": runtime_dir,
        "engine": engine,
        "log_level": log_level,
        "log_format": log_format or ("json" if as_json else None),
        "stop_all": "true" if stop_all else None,
    }
    settings = [*sets, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    command = [sys.executable, "-m", "bhatti.daemon", "serve"]
    for setting in settings:
        command += ["--set", setting]
    # In place of this process: whoever started it has the daemon's own pid, and its signals reach it.
    os.execv(sys.executable, command)


COMMANDS = {"serve": serve}
