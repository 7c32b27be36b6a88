"""The wheel and the source distribution: what is in them, and that they are enough for who installs them."""

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from tests.daemons import ROOT

pytestmark = pytest.mark.timeout(600)

TOP = {"src", "docs", "examples", "packaging"}
FILES = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
"""What a source distribution holds beside the folders."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built as `pip` would, but with what is installed here: no network."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_holds_the_two_packages_whole_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel(built)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")}
    assert {str(path) for path in ours} <= names
    assert {"bhatti/py.typed", "lohar/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} == {"bhatti", "lohar"}
    assert not [name for name in names if name.endswith((".pyc", ".orig", "~")) or "__pycache__" in name]


def test_the_source_distribution_holds_no_junk(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name.partition("/")[0] for name in names if "/" in name} == TOP
    assert {name for name in names if "/" not in name} == FILES
    assert not [name for name in names if name.endswith((".pyc", ".orig", "~")) or "__pycache__" in name]


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what it asks for, without any extra; its directory of programs."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    done = subprocess.run(
        [*command, "--no-index", "--no-deps", str(wheel(built))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (site,) = directory.glob("lib/python*/site-packages")
    for distribution in needed("bhatti", set()):
        for top in tops(distribution):
            if not (site / top).exists():
                (site / top).symlink_to(Path(sysconfig.get_path("purelib")) / top)
    return directory / "bin"


def needed(name: str, seen: set[str]) -> set[str]:
    """The distributions that one asks for, and those that these ask for; extras excepted."""
    for requirement in importlib.metadata.requires(name) or []:
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        if found and "extra ==" not in requirement and found[0] not in seen and "python_version <" not in requirement:
            seen.add(found[0])
            needed(found[0], seen)
    return seen


def tops(distribution: str) -> set[str]:
    files = importlib.metadata.files(distribution) or []
    return {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}


def run(installed: Path, *command: str, home: Path) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}", "HOME": str(home), "BHATTI_STATE_DIR": str(home)}
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=False, timeout=60)


def test_a_client_needs_nothing_of_the_daemon_s(installed: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util as i, bhatti; from bhatti import Sandbox; print(bhatti.__file__, i.find_spec('anyio'))"
    )
    done = run(installed, "python", "-c", script, home=tmp_path)
    assert done.returncode == 0, done.stderr
    where, anyio = done.stdout.split()
    assert where.startswith(str(installed.parent))
    assert anyio == "None"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for command, said in ((["--help"], "Commands:"), (["version"], f"client  {version}"), (["create", "-h"], "Usage")):
        done = run(installed, "bhatti", *command, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    assert run(installed, "lohar", "--version", home=tmp_path).returncode in (0, 1, 2), "it is on PATH"


@pytest.mark.parametrize("command", [["serve"], ["create", "one"], ["doctor"], ["image", "ls"]])
def test_the_daemon_s_side_says_which_extra_it_needs(installed: Path, tmp_path: Path, command: list[str]) -> None:
    done = run(installed, "bhatti", *command, home=tmp_path)
    assert done.returncode == 71, done.stderr
    assert "Traceback" not in done.stderr
    assert "hint: pip install 'bhatti[server]'" in done.stderr
