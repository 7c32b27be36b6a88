"""`bhatti shell` and `bhatti ps`."""

import os
import sys

import click

from bhatti.cli import terminal
from bhatti.cli.answers import listed
from bhatti.cli.session import client, endpoint, json_option, print_json, quiet_option
from bhatti.cli.trailing import NamedCommand
from bhatti.errors import BhattiError, InvalidRequest
from bhatti.model.shells import shown
from bhatti.operations import table, types
from bhatti.sdk.terminal import DETACHED, TAKEN_OVER, Terminal


@click.command(cls=NamedCommand)
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[[--] CMD...]")
@click.option("-s", "--session", metavar="ID", help="Attach to this session; `bhatti ps` lists them.")
@click.option("-r", "--read-only", is_flag=True, help="Watch a session without typing into it.")
@click.option("-u", "--user", metavar="NAME", help="Whom to run it as; `root` is possible.")
@click.option("-w", "--cwd", metavar="DIR", help="Where to begin; /workspace if the image has it.")
@json_option
def shell(
    name: str,
    command: tuple[str, ...],
    session: str | None,
    read_only: bool,
    user: str | None,
    cwd: str | None,
    as_json: bool,
) -> int:
    """Open a terminal in a sandbox: a login shell, or another program.

    Ctrl+\\ detaches: the session lives on, and `bhatti shell NAME --session ID` comes back to it. A connection that is
    lost, a daemon that is restarted, and a sandbox that was put to sleep are come back to without being asked, and what
    was missed is shown. With --json, the last line is an object: the session, how we left it, and its exit code.

    Example: bhatti shell agent-1 -- top
    """
    if not os.isatty(0):
        raise InvalidRequest(
            "standard input is not a terminal", hint=f"use `bhatti exec {name} -- …` instead", code="not-a-terminal"
        )
    if read_only and session is None:
        raise InvalidRequest(
            "--read-only needs --session: there is nothing to watch", hint=f"`bhatti ps {name}` lists the sessions"
        )
    opened = Terminal(
        endpoint(),
        name,
        size=terminal.size,
        command=list(command),
        session=session,
        read_only=read_only,
        user=user,
        cwd=cwd,
        tell=_tell,
    )
    try:
        with opened, terminal.raw():
            code = opened.run()
    except BhattiError:
        if opened.session_id:
            click.echo(err=True)  # the guest has left the cursor wherever it was
        raise
    left = {DETACHED: "detached", TAKEN_OVER: "taken-over"}.get(code)
    if as_json:
        print_json(
            {
                "session_id": opened.session_id,
                "outcome": left or "ended",
                "exit_code": None if left is not None else code,
            }
        )
        return 0 if left is not None else code
    if left is None:
        return code
    what = "detached" if code == DETACHED else "another terminal has taken the session over"
    click.echo(f"\n{what}; come back with `bhatti shell {name} --session {opened.session_id}`", err=True)
    return 0


def _tell(text: str) -> None:
    """Say something on a terminal that is raw."""
    sys.stderr.write(f"\r\nbhatti: {text}\r\n")
    sys.stderr.flush()


@click.command()
@click.argument("name")
@json_option
@quiet_option
def ps(name: str, as_json: bool, quiet: bool) -> None:
    """List the sessions of a sandbox.

    Example: bhatti ps agent-1
    """
    sessions = client().call(table.SESSION_LIST, id=name)
    headings = ("ID", "COMMAND", "RUNNING", "ATTACHED")
    listed(sessions, headings, _row, as_json=as_json, names=(lambda one: one.session_id) if quiet else None)


def _row(found: types.Session) -> tuple[str, ...]:
    running = "yes" if found.running else f"exit {found.exit_code}"
    return found.session_id, shown(found.argv)[:60], running, _yes(found.attached)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


COMMANDS = {"shell": shell, "ps": ps}
