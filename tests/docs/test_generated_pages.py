"""Pages that are made from the code say what the code says now."""

import subprocess
import sys

import pytest
from tests.daemons import ROOT


@pytest.mark.parametrize("page", ["api", "cli", "settings"])
def test_the_page_is_not_stale(page: str) -> None:
    done = subprocess.run(
        [sys.executable, f"scripts/{page}_page.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
