"""What docs/sdk.md and examples/ show works, and what they begin with costs little."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon, daemon

HEAVY = {"aiohttp", "anyio", "click", "mcp", "pydantic", "pyroute2", "rich", "uvloop", "websockets"}
DAEMON_SIDE = ("daemon", "engines", "guestlink", "images", "net", "server", "store", "thermal")


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        yield found


def python(served: Daemon, directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**served.env, "BHATTI_URL": str(served.endpoint)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_does_what_it_says(served: Daemon, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "sdk.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    assert python(served, tmp_path, "-c", "\n".join(blocks)) == "stdout one\nstderr two\n"
    assert served.out("ls", "--json").strip() == b"[]"


@pytest.mark.parametrize("name", ["fan_out.py", "async_fan_out.py"])
def test_the_example_of_forks_finds_the_fix(served: Daemon, tmp_path: Path, name: str) -> None:
    said = python(served, tmp_path, str(ROOT / "examples" / name))
    assert said.splitlines() == ["n + 4: fails", "n * n / 2: fails", "n * 2: works"]
    assert served.out("ls", "--json").strip() == b"[]"


MODULES = {"Sandbox": 160, "AsyncSandbox": 230, "Sandbox, AsyncSandbox": 230}
"""How many modules an import may load beyond those of `python` itself: a fifth more than it does on Python 3.11. What
passes that has something new in it that costs time; `bench/cli.py` measures the time."""


@pytest.mark.parametrize("names", MODULES)
def test_importing_it_loads_little_and_nothing_of_the_daemon(served: Daemon, tmp_path: Path, names: str) -> None:
    script = f"import sys; before = {{*sys.modules}}; from bhatti import {names}; print(*{{*sys.modules}} - before)"
    loaded = set(python(served, tmp_path, "-c", script).split())
    assert ("bhatti.sdk.aio.sandbox" in loaded) == ("Async" in names)
    assert ("asyncio" in loaded) == ("Async" in names)
    assert not loaded & {*HEAVY, *(f"bhatti.{part}" for part in DAEMON_SIDE)}
    assert len(loaded) <= MODULES[names], sorted(loaded)


def test_the_package_itself_loads_nothing_until_it_is_used(served: Daemon, tmp_path: Path) -> None:
    ours = "[name for name in sys.modules if name.startswith('bhatti.')]"
    script = f"import sys, bhatti; print({ours}, 'Sandbox' in dir(bhatti))"
    assert python(served, tmp_path, "-c", script) == "[] True\n"
    with pytest.raises(AssertionError, match="cannot import name 'Nothing'"):
        python(served, tmp_path, "-c", "from bhatti import Nothing")
