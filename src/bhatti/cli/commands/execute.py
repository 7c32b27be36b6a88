"""`bhatti exec` and `bhatti run`."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

import click

from bhatti.cli.autostart import client_of_running_daemon
from bhatti.cli.commands.sandbox import make
from bhatti.cli.running import shell_code, tell_of_prompt
from bhatti.cli.session import client, env_option, environment, json_option, print_json, shape_options
from bhatti.cli.trailing import NamedCommand, TrailingCommand
from bhatti.errors import BhattiError, Busy, NotFound
from bhatti.operations import table, types
from bhatti.sdk.client import Client
from bhatti.sdk.execution import STDERR, STDOUT, Execution

where_options = (
    click.option("-w", "--cwd", metavar="DIR", help="Where to run it; /workspace if the image has it."),
    click.option("-u", "--user", metavar="NAME", help="Whom to run it as; `root` is possible."),
    click.option("-t", "--timeout", type=float, metavar="SECONDS", help="End it, and all it started, after this long."),
    click.option("-n", "--no-stdin", is_flag=True, help="Give it no input; leave ours to others."),
)


@click.command("exec", cls=NamedCommand)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")
@env_option
@where_options[0]
@where_options[1]
@where_options[2]
@where_options[3]
@click.option("-d", "--detach", is_flag=True, help="Return at once; print its pid and the file of its output.")
@json_option
def exec_(
    name: str,
    command: tuple[str, ...],
    env: tuple[str, ...],
    cwd: str | None,
    user: str | None,
    timeout: float | None,
    no_stdin: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Run a command in a sandbox, with our input and output, and return its exit code.

    127 means that there is no such command, 126 that it may not be run. Ctrl-C ends it with all it has started.

    Example: bhatti exec agent-1 -- sh -c 'uname -r; exit 3'
    """
    request = types.ExecRequest(
        cmd=list(command), env=environment(env), cwd=cwd, user=user, timeout_sec=timeout, detach=detach
    )
    if detach:
        left = client().call(table.EXEC, request, id=name)
        if as_json:
            print_json(left)
        else:
            click.echo(f"{left.pid}\t{left.output_file}")
        return 0
    return _execute(client(), name, request, no_stdin=no_stdin, as_json=as_json)


def _execute(caller: Client, name: str, request: types.ExecRequest, *, no_stdin: bool, as_json: bool) -> int:
    stdin = None if no_stdin else 0
    body: dict[str, object] = {
        "cmd": request.cmd,
        "env": request.env,
        "cwd": request.cwd,
        "user": request.user,
        "timeout_sec": request.timeout_sec,
    }
    execution = Execution(caller.endpoint, name, {key: value for key, value in body.items() if value})
    if not (as_json or no_stdin):
        tell_of_prompt(request.cmd)
    if not as_json:
        return shell_code(execution, stdin=stdin, timeout_s=request.timeout_sec)
    kept = {STDOUT: bytearray(), STDERR: bytearray()}
    execution.collect(kept)
    code = execution.run(stdin=stdin)
    texts = {kind: bytes(data).decode(errors="replace") for kind, data in kept.items()}
    print_json(types.ExecResult(exit_code=code, stdout=texts[STDOUT], stderr=texts[STDERR], reason=execution.reason))
    return code


@click.command(cls=TrailingCommand)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")
@click.option("--name", metavar="NAME", help="A name for the sandbox, while it lasts.")
@shape_options
@click.option("--keep", is_flag=True, help="Leave the sandbox behind, and say its name.")
@where_options[0]
@where_options[1]
@where_options[2]
@where_options[3]
@json_option
def run(
    command: tuple[str, ...],
    name: str | None,
    image: str | None,
    cpus: int | None,
    memory: int | None,
    disk: int | None,
    env: tuple[str, ...],
    keep: bool,
    cwd: str | None,
    user: str | None,
    timeout: float | None,
    no_stdin: bool,
    as_json: bool,
) -> int:
    """Run a command in a sandbox of its own, which is gone afterwards.

    Our input and output are the command's, and its exit code is ours. Ctrl-C ends the command, and the sandbox with
    it. Starts a daemon if none is running.

    Example: bhatti run --memory 1024 -- python3 -c 'print(6 * 7)'
    """
    caller = client_of_running_daemon()
    shape = types.SandboxCreate(
        name=name, image=image, cpus=cpus, memory_mb=memory, disk_size_mb=disk, env=environment(env)
    )
    request = types.ExecRequest(cmd=list(command), cwd=cwd, user=user, timeout_sec=timeout)
    with _ended_by_signals():
        sandbox = make(caller, shape, quiet=as_json)
        try:
            return _execute(caller, sandbox.id, request, no_stdin=no_stdin, as_json=as_json)
        finally:
            if keep:
                click.echo(f"kept: {sandbox.name}", err=True)
            else:
                _remove(caller, sandbox)


REMOVE_S = 30.0
"""Expected: some milliseconds; a machine that has to be killed takes seconds."""

BUSY_S = 0.1


class Ended(SystemExit):
    """A signal has asked this process to end, and what it holds is to be removed on the way out."""


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP leave the block like an exception, as SIGINT does anyway."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Ended(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove(caller: Client, sandbox: types.Sandbox) -> None:
    """Remove the sandbox whatever the signals; if that cannot be done, say what is left."""
    ignored = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    caller.close()  # an interrupted answer may be on the way on the connection that we had
    deadline = time.monotonic() + REMOVE_S
    try:
        while True:
            try:
                caller.call(table.SANDBOX_DESTROY, id=sandbox.id)
            except Busy:  # somebody else is removing it: wait for how that ends
                if time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_S)
            else:
                break
    except NotFound:
        pass
    except BhattiError as err:
        sys.stderr.write(f"bhatti: sandbox {sandbox.name} is left behind: {err.message}\n")
        sys.stderr.write(f"hint: remove it with `bhatti rm {sandbox.name}`\n")
    finally:
        for number, handler in ignored.items():
            signal.signal(number, handler)


COMMANDS = {"exec": exec_, "run": run}
