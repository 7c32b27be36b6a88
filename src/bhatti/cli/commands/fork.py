"""`bhatti fork`, `checkpoint` and `snapshot`."""

from pathlib import Path

import click

from bhatti.cli import offline, output
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed
from bhatti.cli.commands.sandbox import followed, told
from bhatti.cli.outfits import file_option, injection, secret_option, wanted_secrets
from bhatti.cli.session import client, env_option, environment, json_option, quiet_option
from bhatti.errors import InvalidRequest
from bhatti.operations import table, types


@click.command()
@click.argument("source")
@click.argument("name", required=False)
@click.option("--checkpoint", metavar="NAME", help="Go on from that checkpoint of the source, not from what it is now.")
@env_option
@file_option
@secret_option
@click.option("--no-secrets", is_flag=True, help="Ask for none, instead of those that the source asked for.")
@json_option
@quiet_option
def fork(
    source: str,
    name: str | None,
    checkpoint: str | None,
    env: tuple[str, ...],
    files: tuple[str, ...],
    secrets: tuple[str, ...],
    no_secrets: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a sandbox that goes on from where another one is.

    It has a copy of the source's processes, memory and disk, and a name, address, token and machine id of its own. The
    source is woken if it sleeps, stands still for a moment, and goes on; forks that are asked for at once wait for each
    other. It has the secrets that the source asked for, with the values that they have now, unless others are given.

    Example: bhatti fork agent-1 agent-2
    """
    request = types.SandboxFork(
        name=name,
        checkpoint=checkpoint,
        env=environment(env),
        files=[injection(given) for given in files],
        secrets=[] if no_secrets else wanted_secrets(secrets),
    )
    events = client().stream(table.SANDBOX_FORK, request, types.CreateEvent, id=source)
    told(followed("fork", events, quiet=quiet or as_json), as_json=as_json, quiet=quiet)


@click.group(cls=Aliased)
def checkpoint() -> None:
    """Keep copies of a sandbox, memory and disk, to go back to or to fork from.

    Example: bhatti checkpoint create agent-1 before-upgrade
    """


@checkpoint.command()
@click.argument("sandbox")
@click.argument("name")
@json_option
@quiet_option
def create(sandbox: str, name: str, as_json: bool, quiet: bool) -> None:
    """Keep a copy of a sandbox as it is now; it is woken if it sleeps.

    Example: bhatti checkpoint create agent-1 before-upgrade
    """
    made = client().call(table.CHECKPOINT_CREATE, types.CheckpointCreate(name=name), id=sandbox)
    answer(made, made.name if quiet else f"{made.name}\t{output.size(made.size_bytes >> 20)}", as_json=as_json)


@checkpoint.command()
@click.argument("sandbox")
@json_option
@quiet_option
def ls(sandbox: str, as_json: bool, quiet: bool) -> None:
    """List the checkpoints of a sandbox, oldest first.

    Example: bhatti checkpoint ls agent-1
    """
    found = client().call(table.CHECKPOINT_LIST, id=sandbox)
    headings = ("NAME", "AGE", "SIZE", "STATE")
    listed(found, headings, _row, as_json=as_json, names=(lambda one: one.name) if quiet else None)


def _row(found: types.Checkpoint) -> tuple[str, ...]:
    state = "ok" if found.usable else f"unusable: {found.detail}"
    return found.name, output.age(found.created_at), output.size(found.size_bytes >> 20), state


@checkpoint.command()
@click.argument("sandbox")
@click.argument("name")
@json_option
def restore(sandbox: str, name: str, as_json: bool) -> None:
    """Put a sandbox back to what it was at a checkpoint. What came after is lost.

    Example: bhatti checkpoint restore agent-1 before-upgrade
    """
    put_back = client().call(table.CHECKPOINT_RESTORE, id=sandbox, name=name)
    answer(put_back, ": ".join(filter(None, (put_back.how, put_back.why))), as_json=as_json)


@checkpoint.command()
@click.argument("sandbox")
@click.argument("name")
@json_option
def rm(sandbox: str, name: str, as_json: bool) -> None:
    """Remove a checkpoint. Forks that were made of it go on.

    Example: bhatti checkpoint rm agent-1 before-upgrade
    """
    outcome = client().call(table.CHECKPOINT_REMOVE, id=sandbox, name=name)
    answer(outcome, outcome.status, as_json=as_json)


@click.group(cls=Aliased)
def snapshot() -> None:
    """Look at the memory of sandboxes that are stopped.

    Example: bhatti snapshot verify agent-1
    """


@snapshot.command()
@click.argument("sandbox")
@click.option("--probe", is_flag=True, help="Load it for a try, into a machine that never runs.")
@json_option
def verify(sandbox: str, probe: bool, as_json: bool) -> int:
    """Say whether a stopped sandbox can go on where it was. Returns 65 if it would have to boot from its disk.

    Example: bhatti snapshot verify agent-1 --probe
    """
    report = client().call(table.SNAPSHOT_VERIFY, types.SnapshotVerify(probe=probe), id=sandbox)
    tried = " (loaded for a try)" if report.probed else ""
    answer(report, f"{'ok' if report.usable else 'unusable'}: {report.detail}{tried}", as_json=as_json)
    return 0 if report.usable else 65


@snapshot.command("ls")
@click.option("--stranded", is_flag=True, help="Only those that a Firecracker could not load: before an upgrade to it.")
@click.option("--firecracker", metavar="PATH", help="The one to ask about; otherwise that of the daemon's settings.")
@json_option
@quiet_option
def list_(stranded: bool, firecracker: str | None, as_json: bool, quiet: bool) -> int:
    """List the memory of stopped sandboxes and of checkpoints, and what made each. Needs no daemon, but its rights.

    With --stranded, returns 65 if there are any: those sandboxes would boot from their disk. Golden snapshots, which
    the daemon makes anew by itself, are not listed.

    Example: bhatti snapshot ls
    """
    if firecracker is not None and not stranded:
        raise InvalidRequest("--firecracker goes with --stranded", hint="bhatti snapshot ls --stranded --firecracker …")
    path = str(Path(firecracker).absolute()) if firecracker and "/" in firecracker else firecracker or ""
    found = offline.answer("snapshot-list", list[types.StoredSnapshot], *([path] if stranded else []))

    def row(one: types.StoredSnapshot) -> tuple[str, ...]:
        made_by = " ".join(filter(None, (one.engine, one.version))) or "-"
        age = output.age(one.created_at) if one.created_at else "-"
        return one.sandbox, one.checkpoint or "-", made_by, age, output.size(one.size_bytes >> 20), one.stranded or "-"

    def name(one: types.StoredSnapshot) -> str:
        return f"{one.sandbox} {one.checkpoint}".rstrip()

    headings = ("SANDBOX", "CHECKPOINT", "TAKEN WITH", "AGE", "SIZE", "STRANDED")
    listed(found, headings, row, as_json=as_json, names=name if quiet else None)
    return 65 if stranded and found else 0


COMMANDS = {"fork": fork, "checkpoint": checkpoint, "snapshot": snapshot}
