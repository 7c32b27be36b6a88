"""Run a command in a sandbox from the command line, with the exit codes that shells have for what cannot run."""

import os
import sys
from collections.abc import Sequence

from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import Execution

SHELL_CODES = {"command-not-found": 127, "permission-denied": 126}
"""What a shell returns for a command that is not there, or may not be run."""

SHELLS = frozenset({"ash", "bash", "dash", "fish", "sh", "zsh"})
"""Who runs one of these without a command, at a terminal, expects a prompt."""


def tell_of_prompt(command: Sequence[str]) -> None:
    """Tell a person at a terminal who starts a shell that no prompt will come; others, nothing."""
    if len(command) == 1 and command[0].rpartition("/")[2] in SHELLS and os.isatty(0) and os.isatty(1):
        told = "has no terminal here and shows no prompt; `bhatti shell NAME` opens one"
        sys.stderr.write(f"bhatti: {command[0]} {told}\n")


def run_command(endpoint: Endpoint, ref: str, command: list[str], *, stdin: int | None = 0) -> int:
    """Run `command` in the sandbox `ref` with this process's own input and output; return its exit code.

    Raises the daemon's errors; but a command that cannot be run is told of here, as a shell would.
    """
    if stdin is not None:
        tell_of_prompt(command)
    return shell_code(Execution(endpoint, ref, {"cmd": command}), stdin=stdin)


def shell_code(execution: Execution, *, stdin: int | None, timeout_s: float | None = None) -> int:
    """Run `execution`; return its exit code, or that of a command that cannot be run.

    Says so if the command did not end by itself: after `timeout_s`, or because there was no memory for it.
    """
    try:
        code = execution.run(stdin=stdin)
    except Exception as error:
        refused = SHELL_CODES.get(getattr(error, "code", ""))
        if refused is None:
            raise
        from bhatti.cli.failures import report

        report(error)
        return refused
    if execution.reason == "timeout" and timeout_s is not None:
        sys.stderr.write(f"bhatti: ended after {timeout_s:g} s\n")
    elif execution.reason == "oom":
        sys.stderr.write("bhatti: ended for want of memory\n")
    return code
