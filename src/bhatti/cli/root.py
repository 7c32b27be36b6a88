"""The group of all commands. A command's module is imported when it is run, or when its own help is asked for."""

import importlib
import os
import time

import click

from bhatti.cli.aliases import ALIASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module below `commands`, what `bhatti --help` says of it)
    "create": ("sandbox", "Make a sandbox."),
    "ls": ("sandbox", "List the sandboxes."),
    "inspect": ("sandbox", "Show one sandbox, with its cause of death if it has one."),
    "edit": ("sleep", "Change name, labels or idle times of a sandbox."),
    "pause": ("sleep", "Halt a sandbox until it is called."),
    "resume": ("sleep", "Let a paused sandbox run on."),
    "stop": ("sandbox", "Put a sandbox to sleep, its memory on the disk."),
    "start": ("sandbox", "Wake a sandbox that sleeps."),
    "rm": ("sandbox", "End sandboxes and remove all they had."),
    "fork": ("fork", "Make a sandbox that goes on from where another one is."),
    "checkpoint": ("fork", "Keep copies of a sandbox to go back to or to fork from."),
    "snapshot": ("fork", "Check the memory of a sandbox that is stopped."),
    "exec": ("execute", "Run a command in a sandbox."),
    "run": ("execute", "Run a command in a sandbox of its own, gone afterwards."),
    "shell": ("shell", "Open a terminal in a sandbox."),
    "ps": ("shell", "List the sessions of a sandbox."),
    "file": ("file", "Read, write and list files of a sandbox."),
    "port": ("port", "List the ports on which programs in sandboxes listen."),
    "forward": ("port", "Have ports of a sandbox on this machine."),
    "publish": ("publish", "Publish a port of a sandbox for everybody."),
    "unpublish": ("publish", "Publish ports of a sandbox no more."),
    "image": ("image", "Build, list and remove images."),
    "task": ("task", "List, show, cancel and wait for long work."),
    "volume": ("volume", "Make, list, grow, clone and remove volumes."),
    "secret": ("secret", "Keep, list and forget secrets, which are encrypted."),
    "template": ("template", "Make, list and remove templates of sandboxes."),
    "events": ("observe", "Show what happened, or what happens."),
    "backup": ("observe", "Copy the daemon's store while it runs."),
    "user": ("user", "Make, list, change and remove users, who call with keys."),
    "setup": ("setup", "Remember the daemon of another machine, and the key to it."),
    "doctor": ("system", "Say what this machine can do and what it lacks."),
    "version": ("system", "Say which client and which daemon this is."),
    "config": ("system", "Show the settings and where they are kept."),
    "completion": ("completion", "Print what makes bash, zsh or fish complete commands and names."),
    "serve": ("serve", "Run the daemon."),
    "mcp": ("mcp", "Give sandboxes to an agent, by the Model Context Protocol."),
}

EPILOG = """\
\b
Examples:
  bhatti run -- uname -a
  bhatti create agent-1 --cpus 2 --memory 1024
  bhatti exec agent-1 -- python3 -c 'print(6 * 7)'

A sandbox is named by its name, its id, or the unique beginning of its id.

\b
Exit codes: 0 done; 2 bad request; 4 no such thing; 5 conflict; 6 limit; 65 corrupt data;
69 unavailable; 70 no answer, or a defect; 71 something to install; 73 engine failure; 74 disk full;
75 busy; 77 not allowed; 126 and 127 a command that cannot be run; 130 interrupted.
`exec` and `run` return the command's own.

\b
Environment: BHATTI_URL, BHATTI_API_KEY, BHATTI_STATE_DIR, BHATTI_RUNTIME_DIR, BHATTI_IMAGES_DIR, NO_COLOR."""


class Lazy(click.Group):
    """A group that knows its commands by name and imports them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, which may be called by another word."""
        name = cmd_name if cmd_name in COMMANDS else ALIASES.get(cmd_name, "")
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"bhatti.cli.commands.{COMMANDS[name][0]}")
        command: click.Command = module.COMMANDS[name]
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Return the commands that begin so, without importing any of them."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import importlib.metadata  # 50 ms, for the one who asks

        click.echo(f"bhatti {importlib.metadata.version('bhatti')}")
        context.exit()


@click.command(
    cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Say which version this is.",
)
@click.option("--url", metavar="URL", help="Where the daemon is, whatever else says so; see BHATTI_URL.")
@click.option(
    "--key", metavar="KEY", help="The key to it. Others see it in lists of processes: BHATTI_API_KEY is better."
)
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON, whatever the command; errors too.")
@click.option("--timing", is_flag=True, help="Say on standard error how long the command took.")
def cli(url: str | None, key: str | None, as_json: bool, timing: bool) -> None:
    """A Linux machine of its own for every AI coding agent."""
    name_daemon(url, key)
    if timing:
        begun = time.monotonic()
        context = click.get_current_context()
        context.call_on_close(lambda: click.echo(f"took {time.monotonic() - begun:.3f} s", err=True))


def name_daemon(url: str | None, key: str | None) -> None:
    """Have every way from here to the daemon lead there, those of other libraries' threads and of children too."""
    for name, given in (("BHATTI_URL", url), ("BHATTI_API_KEY", key)):
        if given is not None:
            os.environ[name] = given


def invoke(arguments: list[str]) -> int:
    """Run the command that the arguments name and return its exit code; errors are raised.

    `help create` is `create --help`, as with many tools.
    """
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    try:
        # Not `cli.main`, which has its own mind about broken pipes and interrupts.
        with cli.make_context("bhatti", arguments) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as end:  # after --help, for one
        return end.exit_code
    return result if isinstance(result, int) else 0
