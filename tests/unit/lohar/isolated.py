"""Run code of the agent as root in namespaces of its own, where it can do to a machine what it does at boot."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "src"


def mount_namespace() -> tuple[str, ...]:
    """Return the options of unshare(1) for a mount namespace; in a chroot, "/" is no mount and stays as it is."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return ("--mount",) if any(line.split()[4] == "/" for line in mounts) else ("--mount", "--propagation=unchanged")


def run_isolated(code: str, *namespaces: str, expect: int = 0) -> str:
    """Run Python `code` under unshare(1) with the options `namespaces` and return what it printed.

    In a new mount namespace nothing propagates to the host. Fails unless the exit status is `expect` (a signal's is
    negative).
    """
    options = [option for name in namespaces for option in (mount_namespace() if name == "--mount" else (name,))]
    done = subprocess.run(
        ["unshare", *options, sys.executable, "-B", "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
