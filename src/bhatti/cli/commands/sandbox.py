"""`bhatti create`, `ls`, `inspect`, `stop`, `start` and `rm`."""

import sys
from collections.abc import Iterable

import click
import msgspec

from bhatti.cli import output, progress
from bhatti.cli.answers import answer, listed, removed
from bhatti.cli.autostart import client_of_running_daemon
from bhatti.cli.outfits import outfit, outfit_options
from bhatti.cli.owners import OURS, owners
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import BhattiError, InvalidRequest
from bhatti.operations import table, types
from bhatti.sdk.client import Client

HEADINGS = ("ID", "STATUS", "THERMAL", "IP", "IMAGE", "CPUS", "MEMORY", "AGE")


@click.command()
@click.argument("name", required=False)
@click.option("--name", "named", metavar="NAME", help="The same as the argument.")
@click.option("--template", metavar="NAME", help="Take from there what is not said here (`bhatti template create`).")
@outfit_options
@click.option("--from", "source", metavar="SANDBOX", help="Fork that sandbox; it cannot be told to be anything else.")
@json_option
@quiet_option
def create(
    name: str | None,
    named: str | None,
    template: str | None,
    source: str | None,
    as_json: bool,
    quiet: bool,
    **given: object,
) -> None:
    """Make a sandbox and wait until it answers.

    Prints its id, name and address. Starts a daemon if none is running.

    Example: bhatti create agent-1 --cpus 2 --memory 1024 --env TERM=dumb --secret GITHUB_TOKEN
    """
    if name is not None and named is not None and name != named:
        raise InvalidRequest(f"two names are given, {name!r} and {named!r}", hint="give one of them")
    if "" in (name, named, template):  # the API takes that for none; here it is a variable that somebody has not set
        raise InvalidRequest("a name is given and empty", hint="leave it out to have one made up", code="bad-name")
    request = types.SandboxCreate(
        name=name if named is None else named, template=template, source=source, **outfit(given)
    )
    told(make(client_of_running_daemon(), request, quiet=quiet or as_json), as_json=as_json, quiet=quiet)


def told(made: types.Sandbox, *, as_json: bool, quiet: bool) -> None:
    """Print a sandbox that was made: all of it, its id alone, or what people want to know."""
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(made.id)
    else:
        click.echo(f"{made.id}\t{made.name}\t{made.ip or ''}")
        if sys.stderr.isatty():
            seconds = made.timings_ms.get("total", sum(made.timings_ms.values())) / 1000
            why = f": {made.why}" if made.why else ""
            click.echo(f"{made.how} in {seconds:.1f} s, {made.accelerator}{why}", err=True)


def make(caller: Client, request: types.SandboxCreate, *, quiet: bool) -> types.Sandbox:
    """Create a sandbox, showing its stages; raises what the daemon raised."""
    return followed("create", caller.stream(table.SANDBOX_CREATE, request, types.CreateEvent), quiet=quiet)


def followed(title: str, events: Iterable[types.CreateEvent], *, quiet: bool) -> types.Sandbox:
    """Show the stages of a creation and return what was made; raises what the daemon raised."""
    with progress.shown(title, quiet=quiet or not sys.stderr.isatty()) as report:
        for event in events:
            if event.sandbox is not None:
                return event.sandbox
            report(event.stage, 0, 0)
    raise BhattiError("the daemon's answer ended without a sandbox", hint="`bhatti ls` shows whether it was made")


@click.command()
@click.option("--label", metavar="KEY[=VALUE]", help="Only those with this label.")
@json_option
@quiet_option
def ls(label: str | None, as_json: bool, quiet: bool) -> None:
    """List the sandboxes, newest first. The administrator sees those of all users, and whose they are.

    Example: bhatti ls -q --label team=red
    """
    caller = client()
    query = {} if label is None else {"label": label}
    found = msgspec.json.decode(caller.download(table.SANDBOX_LIST, query).read(), type=list[types.Sandbox])
    whose = None if quiet or as_json else owners(caller, found)
    headings = ("NAME", *(() if whose is None else ("OWNER",)), *HEADINGS)
    names = (lambda sandbox: sandbox.id) if quiet else None
    listed(found, headings, lambda sandbox: _row(sandbox, whose), as_json=as_json, names=names)


def _row(sandbox: types.Sandbox, whose: dict[str, str] | None) -> tuple[str, ...]:
    return (
        sandbox.name,
        *(() if whose is None else (whose[sandbox.created_by],)),
        sandbox.id,
        sandbox.status,
        sandbox.thermal,
        sandbox.ip or "-",
        sandbox.image,
        str(sandbox.cpus),
        output.size(sandbox.memory_mb),
        output.age(sandbox.created_at),
    )


@click.command()
@click.argument("name")
@json_option
def inspect(name: str, as_json: bool) -> None:
    """Show one sandbox as it is now.

    Example: bhatti inspect agent-1
    """
    caller = client()
    sandbox = caller.call(table.SANDBOX_GET, id=name)
    if as_json:
        print_json(sandbox)
        return
    whose = owners(caller, [sandbox])
    rows = [
        ("name", sandbox.name),
        ("id", sandbox.id),
        *(("owner", owner) for owner in (whose or {}).values() if owner != OURS),
        ("status", f"{sandbox.status} ({sandbox.thermal})"),
        ("thermal", sandbox.thermal_reason or "-"),
        ("labels", " ".join(f"{key}={value}" for key, value in sorted(sandbox.labels.items())) or "-"),
        ("address", sandbox.ip or "-"),
        ("image", sandbox.image),
        ("cpus", str(sandbox.cpus)),
        ("memory", output.size(sandbox.memory_mb)),
        ("disk", output.size(sandbox.disk_size_mb)),
        *(("template", template) for template in (sandbox.template_id,) if template),
        *(("secret", name) for name in sandbox.secrets),
        *(("volume", f"{v.name} at {v.mount}{', read-only' if v.read_only else ''}") for v in sandbox.volumes),
        ("engine", " ".join(filter(None, (sandbox.engine, sandbox.accelerator)))),
        ("created", f"{sandbox.created_at:%Y-%m-%d %H:%M:%S} UTC, {output.age(sandbox.created_at)} ago"),
        ("start", ": ".join(filter(None, (sandbox.how, sandbox.why)))),
        *((f"  {part}", f"{ms:.0f} ms") for part, ms in sandbox.timings_ms.items()),
    ]
    if sandbox.cause is not None:
        rows.append(("cause", f"{sandbox.cause.kind}: {sandbox.cause.detail}"))
        if sandbox.cause.console_tail:
            rows.append(("console", sandbox.cause.console_tail))
    output.pairs(rows)


@click.command()
@click.argument("name")
@click.option("--memory/--no-memory", default=None, help="Keep its memory or fail, or let its programs end.")
@json_option
def stop(name: str, memory: bool | None, as_json: bool) -> None:
    """Put a sandbox to sleep, its memory on the disk.

    It needs neither processor nor memory until it is started, or called: any command wakes it, every process where it
    was. With --no-memory, and with an engine that cannot keep it (Docker), its programs end and its disk is kept.

    Example: bhatti stop agent-1
    """
    sandbox = client().call(table.SANDBOX_STOP, types.SandboxStop(memory=memory), id=name)
    answer(sandbox, "stopped", as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--memory", is_flag=True, help="Fail rather than boot it without its memory.")
@json_option
def start(name: str, memory: bool, as_json: bool) -> None:
    """Wake a sandbox that is stopped, or boot one that has failed from its disk.

    Prints how it came up: `restored` with every process where it was, or `disk-boot` and the reason. With --memory, one
    that cannot go on where it was stays as it is, and the reason is the error.

    Example: bhatti start agent-1
    """
    sandbox = client().call(table.SANDBOX_START, types.SandboxStart(memory=memory), id=name)
    answer(sandbox, ": ".join(filter(None, (sandbox.how, sandbox.why))), as_json=as_json)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Do not mind sandboxes that are not there.")
@json_option
@quiet_option
def rm(names: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> None:
    """End sandboxes and remove all they had, disk included.

    One that fails does not keep the others from going; the first failure is told at the end.

    Example: bhatti rm agent-1 agent-2
    """
    caller = client()

    def remove(name: str) -> str:
        return caller.call(table.SANDBOX_DESTROY, id=name).status

    removed(names, remove, "destroyed", force=force, as_json=as_json, quiet=quiet)


COMMANDS = {"create": create, "ls": ls, "inspect": inspect, "stop": stop, "start": start, "rm": rm}
