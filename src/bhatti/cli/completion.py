"""What a shell is told when a person presses Tab: commands, options, and the names of what there is.

The shell runs `bhatti` anew for every Tab, with the words so far in its environment (click's protocol). So it is quick,
and silent: whatever goes wrong is an empty answer, and no daemon is started for it.
"""

import json
import os
import sys
from collections.abc import Iterable

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, get_completion_class, shell_complete

from bhatti.cli.root import cli, name_daemon
from bhatti.sdk.connection import Connection
from bhatti.sdk.endpoint import find

VARIABLE = "_BHATTI_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

LISTS = {
    "volume": "/volumes",
    "image": "/images",
    "user": "/users",
    "secret": "/secrets",
    "template": "/templates",
}
"""Where the names are that the commands of a group are about; all other commands are about sandboxes."""

OTHERS = frozenset({"task"})
"""Groups whose names are of another kind."""

ARGUMENTS = frozenset({"name", "names", "sandbox", "source"})
"""What a command's first argument is called if it names what there is."""

TIMEOUT_S = 0.5
"""Expected: a millisecond. Who types does not wait for a daemon in trouble."""


def script(shell: str) -> str:
    """Return what a shell has to run once to know our completion."""
    found = get_completion_class(shell)
    assert found is not None
    complete = found(cli, {}, "bhatti", VARIABLE)
    # Bash's own `source` would ask bash for its version first.
    return ShellComplete.source(complete) if isinstance(complete, BashComplete) else complete.source()


def complete() -> int:
    """Answer the shell that has started this process; return the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        _prepare(os.environ.get("COMP_WORDS", "").split()[1:])
        code = shell_complete(cli, {}, "bhatti", VARIABLE, os.environ[VARIABLE])
        sys.stdout.flush()
    except Exception:
        return 1
    return code


def _prepare(words: Iterable[str]) -> None:
    """Let the command that the words name complete the names of what it is about, as their daemon has them."""
    command: click.Command = cli
    path = []
    context = click.Context(cli, resilient_parsing=True)
    options, rest, _ = cli.make_parser(context).parse_args(list(words))
    name_daemon(options.get("url"), options.get("key"))
    for word in rest:
        if isinstance(command, click.Group) and not word.startswith("-"):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                return
            command = inner
            path.append(word)
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    if not path or not arguments or arguments[0].name not in ARGUMENTS or path[0] in OTHERS:
        return
    if path == ["file", "cp"]:
        for argument in arguments:
            argument.type = NamedOrFile(LISTS.get(path[0], "/sandboxes"))
    elif path[-1] != "create" or arguments[0].name == "sandbox":
        arguments[0].type = Named(LISTS.get(path[0], "/sandboxes"))


class Named(click.types.StringParamType):
    """The name of something that the daemon has, listed at `target`."""

    name = "name"

    def __init__(self, target: str) -> None:
        self._target = target

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Ask the daemon, if there is one."""
        answer = Connection(find(), timeout_s=TIMEOUT_S).request("GET", self._target)
        if answer.head.status != 200:
            return []
        taken = ctx.params.get(param.name or "") or ()
        return [
            CompletionItem(one["name"], help=one.get("thermal_reason") or one.get("status"))
            for one in json.loads(answer.read())
            if one["name"].startswith(incomplete) and one["name"] not in taken
        ]


class NamedOrFile(Named):
    """The name of something that the daemon has, or else a file of this machine, which the shell knows best."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Ask the daemon, if something has been typed; without any of that name it is for the shell to say."""
        try:
            named = super().shell_complete(ctx, param, incomplete) if incomplete else []
        except Exception:  # whoever has no daemon has files all the same
            named = []
        return named or [CompletionItem(incomplete, type="file")]
