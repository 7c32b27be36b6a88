"""`bhatti doctor`, `version` and `config`."""

import os
from pathlib import Path

import click
import msgspec

from bhatti import paths
from bhatti.cli import offline, output
from bhatti.cli.autostart import wait_until_ready
from bhatti.cli.session import client, endpoint, json_option, print_json
from bhatti.errors import MissingDependency, Unavailable
from bhatti.operations import table, types


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine can do and what it lacks, with the line that installs it.

    Works with and without a daemon. Returns 71 if something that is needed is missing.

    Example: bhatti doctor --json
    """
    try:
        report = client().call(table.DOCTOR)
    except Unavailable:
        report = offline.answer("doctor", types.DoctorReport)
    if as_json:
        print_json(report)
    else:
        rows = [(check.name, check.status, check.detail) for check in report.checks]
        output.table(("WHAT", "STATUS", "DETAIL"), rows)
        for check in report.checks:
            if check.hint:
                click.echo(f"{check.name}: {check.hint}")
        if report.apt:
            click.echo(f"install what is missing: apt install {' '.join(report.apt)}")
    return 0 if report.ok else MissingDependency.exit_code


@click.command()
@click.option(
    "--wait", type=float, metavar="SECONDS", help="Wait so long for the daemon to serve; fail if it does not."
)
@json_option
def version(wait: float | None, as_json: bool) -> None:
    """Say which client this is, and which daemon answers, if one does.

    Example: bhatti version --wait 10
    """
    import importlib.metadata  # 50 ms, for the one who asks

    caller = client()
    ours = importlib.metadata.version("bhatti")
    if wait is not None:
        wait_until_ready(caller, wait)
    try:
        theirs: types.Version | None = caller.call(table.VERSION)
    except Unavailable as err:
        if not offline.no_daemon(err):
            raise
        theirs = None
    if as_json:
        print_json({"client": ours, "daemon": theirs})
        return
    click.echo(f"client  {ours}")
    if theirs is None:
        click.echo(f"daemon  not running at {endpoint()}")
    else:
        click.echo(f"daemon  {theirs.version}, API {theirs.api}, engine {theirs.engine}, pid {theirs.pid}")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show the settings that a daemon started here would have, and where each of them comes from.

    That is a file, a variable of the environment, or the default; docs/settings.md says what they mean. `url` is the
    daemon that commands call.

    Example: bhatti config --json
    """
    from bhatti.daemon import settings  # needs nothing of the daemon's side but itself

    loaded, origins = settings.load(), settings.origins()
    document = msgspec.to_builtins(loaded) | {"socket": str(loaded.socket), "url": str(endpoint())}
    origins["url"] = _origin_of_url()
    if as_json:
        files = [str(path) for path in settings.config_files() if path.exists()]
        print_json(document | {"files": files, "origins": origins})
        return
    flat: dict[str, object] = {}
    for key, value in document.items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    rows = [(key, _text(value), origins.get(key, "default")) for key, value in flat.items()]
    output.table(("SETTING", "VALUE", "FROM"), rows)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as it is written in a file
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "-"


def _origin_of_url() -> str:
    """Say what has named the daemon that commands call; see `sdk.endpoint.find`."""
    for variable in ("BHATTI_URL", "BHATTI_STATE_DIR", "BHATTI_RUNTIME_DIR"):
        if os.environ.get(variable):
            return variable
    written = paths.client_config_path()
    return written if Path(written).exists() else "default"


COMMANDS = {"doctor": doctor, "version": version, "config": config}
