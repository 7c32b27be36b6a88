"""Run code of the agent as root in namespaces of its own, where it can do to a machine what it does at boot."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "src"


def run_isolated(code: str, *namespaces: str, expect: int = 0) -> str:
    """Run Python `code` under unshare(1) with the options `namespaces` and return what it printed.

    In a new mount namespace nothing propagates to the host. Fails unless the exit status is `expect` (a signal's is
    negative).
    """
    done = subprocess.run(
        ["unshare", *namespaces, sys.executable, "-B", "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == expect, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
