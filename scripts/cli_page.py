"""Write docs/cli.md from the commands themselves; with `--check`, only say whether it is as it should be."""

import inspect
import sys
from pathlib import Path

import click

from bhatti.cli.aliases import ALIASES
from bhatti.cli.root import COMMANDS, cli
from bhatti.errors import CLASSES_BY_CODE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

INTRODUCTION = """\
# The command line

Written by `scripts/cli_page.py` from the commands themselves; a test runs every example. `bhatti COMMAND --help` says
the same.

A sandbox is named by its name, its id, or the unique beginning of its id; so are templates, tasks and users. With
`--json`, before the command or behind it, a command answers with one JSON document, and tells of an error as one JSON
object on standard error; with `-q` it answers with ids or names alone, for scripts. `bhatti --timing COMMAND` says how
long it took. Colour is for terminals, and not where `NO_COLOR` is set. Other words are understood too, also in groups:
ALIASES.

Which daemon is meant: the options `--url` and `--key` before the command (`bhatti --url http://box.example:8080 ls`),
else `BHATTI_URL` and `BHATTI_API_KEY`, else `BHATTI_STATE_DIR` or `BHATTI_RUNTIME_DIR`, else what `bhatti setup` wrote
down, else this user's own. The environment wins over the file on purpose: a variable is set for one shell or one job,
the file for all of them. The daemon's own settings follow the same order: options of `bhatti serve`, `BHATTI_…`, the
user's `~/.config/bhatti/config.toml`, `/etc/bhatti/config.toml`, the default. `bhatti config` shows them all with where
each comes from. `bhatti completion` makes a shell complete commands, options and names.

## Exit codes

`exec`, `run` and `shell` return the code of the command; all others, and these where no command ran:

| code | `code` in JSON | what happened |
|--:|---|---|
"""

OTHERS = {
    0: ("", "It is done."),
    70: ("internal", "A defect of bhatti; the details are in `cli.log` of the state directory."),
    126: ("permission-denied", "The command of `exec` or `run` may not be run."),
    127: ("command-not-found", "The command of `exec` or `run` is not there."),
    130: ("", "Interrupted (Ctrl-C)."),
    141: ("", "Whoever read our output has left."),
}
"""Exit codes that no class of error has, or that mean something else as well."""


def exit_codes() -> list[tuple[int, str, str]]:
    """Return every exit code with the code and the meaning that go with it."""
    rows = [(code, name, meaning) for code, (name, meaning) in OTHERS.items()]
    for name, kind in CLASSES_BY_CODE.items():
        rows.append((kind.exit_code, name, (inspect.getdoc(kind) or "").splitlines()[0]))
    return sorted([*rows, (2, "usage", "The command line is not right.")])


def page() -> str:
    """Return the page."""
    words = [f"`{word}` is `{command}`" for word, command in ALIASES.items()]
    parts = [
        INTRODUCTION.replace("ALIASES", ",\n".join(", ".join(words[at : at + 5]) for at in range(0, len(words), 5)))
    ]
    parts += [f"| {code} | {f'`{name}`' if name else ''} | {meaning} |\n" for code, name, meaning in exit_codes()]
    parts.append(
        "\nWhere `code` names a narrower case (`sandbox-not-found`), `kind` in JSON is the one of this table.\n"
    )
    parts.append("\n## Commands\n\n")
    parts += [f"- [`bhatti {name}`](#bhatti-{name}): {text}\n" for name, (_, text) in COMMANDS.items()]
    root = click.Context(cli, info_name="bhatti")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        parts += described(command, click.Context(command, info_name=name, parent=root), 3)
    return "".join(parts)


def described(command: click.Command, context: click.Context, level: int) -> list[str]:
    """Return the parts that describe a command, and those below it."""
    parts = [f"\n{'#' * level} {context.command_path}\n\n", f"`{' '.join(command.get_usage(context).split()[1:])}`\n\n"]
    text = inspect.cleandoc(command.help or "").split("\n\n")
    for paragraph in text:
        if paragraph.startswith("Example"):
            lines = [line.strip() for line in paragraph.partition(":")[2].splitlines() if line.strip()]
            parts.append("```sh\n" + "\n".join(lines) + "\n```\n\n")
        elif paragraph.startswith("\b"):
            parts.append("```\n" + paragraph.removeprefix("\b").strip("\n") + "\n```\n\n")
        else:
            parts.append(paragraph + "\n\n")
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if rows := [record for option in options if (record := option.get_help_record(context))]:
        parts.append("| option | |\n|---|---|\n")
        parts += [f"| `{name.replace('|', chr(92) + '|')}` | {what} |\n" for name, what in rows]
    else:
        parts[-1] = parts[-1].rstrip("\n") + "\n"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            parts += described(inner, click.Context(inner, info_name=name, parent=context), level + 1)
    return parts


def main(arguments: list[str]) -> int:
    """Write or check the page; return 1 if it was found stale."""
    wanted = page()
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == wanted:
            return 0
        print("docs/cli.md is stale: run `python scripts/cli_page.py`")
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
