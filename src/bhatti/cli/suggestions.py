"""What somebody meant who wrote a command or an option that there is not: other tools' words for ours, and typos."""

import difflib
import re

import click

from bhatti.cli.aliases import ALIASES

MEANT = {
    "attach": "shell",
    "build": "image build",
    "cat": "file read",
    "clone": "fork",
    "console": "shell",
    "copy": "file cp",
    "cp": "file cp",
    "daemon": "serve",
    "describe": "inspect",
    "download": "file cp",
    "enter": "shell",
    "expose": "publish",
    "get": "inspect",
    "images": "image ls",
    "import": "image import",
    "kill": "rm",
    "login": "setup",
    "log": "events",
    "logs": "events",
    "new": "create",
    "port-forward": "forward",
    "ports": "port ls",
    "pull": "image pull",
    "push": "file cp",
    "rename": "edit",
    "restore": "checkpoint restore",
    "secrets": "secret ls",
    "server": "serve",
    "settings": "config",
    "show": "inspect",
    "sleep": "stop",
    "ssh": "shell",
    "status": "inspect",
    "suspend": "stop",
    "tasks": "task ls",
    "templates": "template ls",
    "tunnel": "forward",
    "unpause": "resume",
    "update": "edit",
    "upload": "file cp",
    "users": "user ls",
    "volumes": "volume ls",
    "wake": "start",
}
"""Words that other tools, and tired people, have for our commands, beside those that are understood (`aliases`)."""

MEANT_IN_GROUPS = {
    "add": "create",
    "cat": "read",
    "copy": "cp",
    "get": "inspect",
    "make": "create",
    "new": "create",
    "show": "inspect",
}
"""The same, for what is done to volumes, secrets, images and so on."""

OF_A_TERMINAL = {"-i", "-it", "-ti", "--interactive", "--tty"}
"""What other tools' `exec` and `run` are told to have a terminal."""


def meant(error: click.ClickException) -> str | None:
    """Return the hint for a command line that names something that is not there; None if nothing comes to mind."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    found = re.match(r"No such (command|option):? '?([^' ]+?)'?(?:\.|$)", getattr(error, "message", ""))
    if context is None or found is None:
        return None
    kind, word = found.groups()
    if kind == "option":
        named = context.command.name in ("exec", "run")
        if not (named and word in OF_A_TERMINAL):
            return None
        return "input is passed on as it is; for a terminal use `bhatti shell NAME -- CMD`"
    if not isinstance(context.command, click.Group):
        return None
    ours = _command(context.command.list_commands(context), word, at_root=context.parent is None)
    path = context.command_path
    return f"did you mean `{path} {ours}`? `{path} --help` shows all there are" if ours else None


def _command(names: list[str], word: str, *, at_root: bool) -> str | None:
    known = ALIASES | (MEANT if at_root else MEANT_IN_GROUPS)
    known = {one: ours for one, ours in known.items() if ours.split()[0] in names}
    close = difflib.get_close_matches(word.lower(), [*names, *known], 1, cutoff=0.7)
    return known.get(close[0], close[0]) if close else None
