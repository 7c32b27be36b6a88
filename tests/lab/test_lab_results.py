"""The lab's results: whatever dies in the middle, what is done is done, and a test that kills twice is told of."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.lab_results import VARIABLE, Result, results

ROOT = Path(__file__).parents[2]

SUITE = """
import os
import pathlib

import pytest


@pytest.fixture
def breaks():
    yield
    raise RuntimeError("too late")


def test_passes(record_property):
    record_property("first", 1.5)
    record_property("second", 2)


def test_is_skipped():
    pytest.skip("not here")


def test_fails():
    assert 1 == 2


def test_is_torn_down_badly(breaks):
    pass


@pytest.mark.parametrize("times", [1, 5], ids=["once", "always"])
def test_kills(times):
    deaths = pathlib.Path(f"deaths-{times}")
    count = len(deaths.read_text()) if deaths.exists() else 0
    if count < times:
        deaths.write_text("x" * (count + 1))
        os._exit(9)


def test_comes_last():
    pass
"""


def run(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "scripts.lab_results", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", str(directory), "-k", "not nobody", "test_suite.py"],
        cwd=directory,
        env=os.environ
        | {
            VARIABLE: str(directory / "results"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_a_suite_whose_machine_dies_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    codes: list[int] = []
    while not codes or codes[-1] == 9:
        codes.append(run(tmp_path).returncode)
        with (tmp_path / "results").open("a") as file:
            file.write('{"test": "cut')  # what a death in the middle of a line leaves
            file.write("\n")
    assert codes == [9, 9, 9, 0]
    found = results((tmp_path / "results").read_text().splitlines())
    assert {name.partition("::")[2]: result.outcome for name, result in found.items()} == {
        "test_passes": "passed",
        "test_is_skipped": "skipped",
        "test_fails": "failed",
        "test_is_torn_down_badly": "failed",
        "test_kills[once]": "passed",
        "test_kills[always]": "died",
        "test_comes_last": "passed",
    }
    assert found["test_suite.py::test_passes"].figures == {"first": 1.5, "second": 2}
    assert "not here" in found["test_suite.py::test_is_skipped"].words
    assert "assert 1 == 2" in found["test_suite.py::test_fails"].words
    assert "too late" in found["test_suite.py::test_is_torn_down_badly"].words
    # All have a result now: there is nothing left to run.
    assert run(tmp_path).returncode == 5


def test_a_line_that_was_cut_is_nothing() -> None:
    assert results(['{"test": "a", "outcome": "passed"}', '{"test": "b", "outc']) == {"a": Result("a", "passed")}
