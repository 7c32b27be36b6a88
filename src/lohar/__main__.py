"""`lohar` and `python -m lohar`: the agent as PID 1 of a machine, or in test mode."""

from __future__ import annotations

import os
import sys

from lohar import __version__

USAGE = """\
lohar is the agent inside a bhatti sandbox. It runs as PID 1 of a virtual machine, or for tests with

    LOHAR_TEST=1 LOHAR_SOCK=/path/control.sock LOHAR_FWD_SOCK=/path/forward.sock lohar

Options: -h, --help; -V, --version\
"""


def main() -> int:
    """Run the agent; return the exit status."""
    arguments = sys.argv[1:]
    if os.getpid() == 1:
        # Whatever a kernel's command line passes on is not for us.
        from lohar.pid1 import run as run_machine

        return run_machine()
    if arguments in (["-V"], ["--version"]):
        print(f"lohar {__version__}")
        return 0
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if arguments:
        print(f"lohar: unknown argument {arguments[0]!r}\n\n{USAGE}", file=sys.stderr)
        return 2
    if os.environ.get("LOHAR_TEST") == "1":
        from lohar.testmode import run as run_test_mode

        return run_test_mode(dict(os.environ))
    print(f"lohar: neither PID 1 nor in test mode: nothing to do here\n\n{USAGE}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
