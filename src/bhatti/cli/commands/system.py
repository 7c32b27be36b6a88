"""`bhatti doctor`, `version` and `config`."""

import click
import msgspec

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
    """Show the settings that a daemon started here would have, and the files they come from.

    Example: bhatti config --json
    """
    from bhatti.daemon import settings  # needs nothing of the daemon's side but itself

    loaded = settings.load()
    document = msgspec.to_builtins(loaded)
    document |= {
        "socket": str(loaded.socket),
        "url": str(endpoint()),
        "files": [str(path) for path in settings.config_files() if path.exists()],
    }
    if as_json:
        print_json(document)
        return
    rows = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{name}", str(inner)) for name, inner in value.items()]
        else:
            rows.append((key, ", ".join(value) if isinstance(value, list) else str(value)))
    output.pairs(rows)


COMMANDS = {"doctor": doctor, "version": version, "config": config}
