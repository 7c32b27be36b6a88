"""The entry point: the shortest way for the commonest command, everything else through click.

`bhatti exec NAME -- CMD` is what programs call a thousand times; click and msgspec alone would double what it takes.
It is recognised here when it has no options, and runs the same code that `commands.execute` runs.
"""

import os
import sys


def main() -> None:
    """Run the command line of this process and exit."""
    arguments = sys.argv[1:]
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_what_is_closed()
    try:
        code = run(arguments)
        sys.stdout.flush()
        if plain_exec(arguments):
            sys.stderr.flush()
            os._exit(code)  # nothing is left to do: taking the interpreter apart would cost a tenth of the whole
    except BrokenPipeError:
        # Whoever read our output has gone, like `head`; Python would complain about it once more at exit.
        code = 141
        _forget_stdout()
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        from bhatti.cli.failures import report

        code = report(error, as_json="--json" in _own(arguments))
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors are raised."""
    if plain := plain_exec(arguments):
        from bhatti.cli.running import run_command
        from bhatti.sdk.endpoint import find

        return run_command(find(), plain[0], plain[1:])
    if "_BHATTI_COMPLETE" in os.environ:
        from bhatti.cli.completion import complete

        return complete()
    from bhatti.cli.root import invoke

    return invoke(arguments)


def plain_exec(arguments: list[str]) -> list[str]:
    """Return `[NAME, *CMD]` if the arguments are `exec NAME [--] CMD…` without any option, else nothing."""
    if len(arguments) < 3 or arguments[0] != "exec" or arguments[1].startswith("-"):
        return []
    name, *command = arguments[1:]
    if command[0] == "--":
        return [name, *command[1:]] if len(command) > 1 else []
    return [] if command[0].startswith("-") else [name, *command]


def _own(arguments: list[str]) -> list[str]:
    """Return the arguments that are ours: what follows `--` belongs to a command in a sandbox."""
    if plain_exec(arguments):
        return []
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _open_what_is_closed() -> None:
    """Put /dev/null in the place of standard streams that we were started without (`<&-`).

    The first socket would have their number otherwise, and be taken for our input.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, mode))


def _forget_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
