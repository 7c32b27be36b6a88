"""What docs/sdk.md and examples/ show works, and what they begin with costs little."""

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import urllib.request
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


def python(served: Daemon, directory: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=env(served), cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def env(served: Daemon) -> dict[str, str]:
    return {**served.env, "BHATTI_URL": str(served.endpoint)}


def free_port() -> int:
    """Return a port that nobody listens on, and that the kernel gives to nobody by itself."""
    while True:
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
            return int(tried.getsockname()[1])


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


def test_the_example_of_an_agent_writes_until_the_tests_pass(served: Daemon, tmp_path: Path) -> None:
    said = python(served, tmp_path, str(ROOT / "examples" / "agent_loop.py"))
    verdicts = ["draft 1: FAILED (failures=3)", "draft 2: FAILED (failures=2)", "draft 3: OK"]
    assert said.splitlines() == [*verdicts, "MMXXVI"]
    assert served.out("ls", "--json").strip() == b"[]"


TEST_FILE = "import unittest\n\nclass T(unittest.TestCase):\n    def test(self):\n        assert {}\n"


def test_the_example_of_shards_runs_every_test_and_tells_which_fail(served: Daemon, tmp_path: Path) -> None:
    files = [f"test_{name}.py" for name in "abcde"]
    for file in files:
        (tmp_path / file).write_text(TEST_FILE.format(file != "test_d.py"))
    example = str(ROOT / "examples" / "shards.py")
    said = python(served, tmp_path, example, str(tmp_path), "3", code=1)
    for line in ("FAILED: test_a.py test_d.py", "passed: test_b.py test_e.py", "passed: test_c.py"):
        assert line in said.splitlines()
    assert said.endswith("2 of 3 shards passed\n")
    assert "test_d.py" in said.partition("Traceback")[2]
    (tmp_path / "test_d.py").unlink()
    assert python(served, tmp_path, example, str(tmp_path)).endswith("4 of 4 shards passed\n")
    assert served.out("ls", "--json").strip() == b"[]"


@pytest.mark.parametrize("gateway", [True, False])
def test_the_example_of_a_preview_shows_a_directory(served: Daemon, tmp_path: Path, gateway: bool) -> None:
    (tmp_path / "index.html").write_text("<h1>a page</h1>")
    with contextlib.ExitStack() as until_the_end:
        host = served if gateway else until_the_end.enter_context(daemon())
        port = str(free_port())
        preview = subprocess.Popen(
            [sys.executable, ROOT / "examples" / "web_preview.py", tmp_path, port],
            env=env(host),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert preview.stdout is not None
        url = preview.stdout.readline().strip()
        assert ("/p/" in url) == gateway
        with urllib.request.urlopen(url, timeout=60) as page:
            assert page.read() == b"<h1>a page</h1>"
        preview.communicate("\n")
        assert preview.returncode == 0
        assert host.out("ls", "--json").strip() == b"[]"


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


IMPORT_RATIO = 14.0
"""What importing may take, to a Python that does nothing. Expected: 9, http.client alone being 4; 120 ms where such a
Python takes 13. Processor time, and the least of several, so that what else the machine does matters little."""


def test_importing_it_costs_little(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "PYTHONPYCACHEPREFIX": str(tmp_path)}

    def seconds(code: str) -> float:
        _, status, used = os.wait4(os.posix_spawn(sys.executable, [sys.executable, "-c", code], environment), 0)
        assert status == 0
        return used.ru_utime + used.ru_stime

    rounds = [(seconds("pass"), seconds("from bhatti import Sandbox")) for _ in range(7)]
    bare, importing = (min(figures) for figures in zip(*rounds, strict=True))
    assert importing < IMPORT_RATIO * bare


def test_the_package_itself_loads_nothing_until_it_is_used(served: Daemon, tmp_path: Path) -> None:
    ours = "[name for name in sys.modules if name.startswith('bhatti.')]"
    script = f"import sys, bhatti; print({ours}, 'Sandbox' in dir(bhatti))"
    assert python(served, tmp_path, "-c", script) == "[] True\n"
    with pytest.raises(AssertionError, match="cannot import name 'Nothing'"):
        python(served, tmp_path, "-c", "from bhatti import Nothing")
