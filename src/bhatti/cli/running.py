"""Run a command in a sandbox from the command line, with the exit codes that shells have for what cannot run."""

import sys

from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.execution import Execution

SHELL_CODES = {"command-not-found": 127, "permission-denied": 126}
"""What a shell returns for a command that is not there, or may not be run."""


def run_command(endpoint: Endpoint, ref: str, request: dict[str, object], *, stdin: int | None = 0) -> int:
    """Run `request["cmd"]` in the sandbox `ref` with this process's own input and output; return its exit code.

    Raises the daemon's errors; but a command that cannot be run is told of here, as a shell would.
    """
    return shell_code(Execution(endpoint, ref, request), stdin=stdin)


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
