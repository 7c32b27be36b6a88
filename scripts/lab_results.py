"""A plugin of pytest for the lab: what became of each test, on the disk before the next one begins.

The lab's machine may die in the middle. Started again, it goes on with the tests that have no result yet; one in which
it died twice is left out then, with that as its result.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

VARIABLE = "BHATTI_LAB_RESULTS"
"""Names the file."""

DEATHS = 2
"""How often the machine may die in one test before that is taken for the test's result."""


@dataclass(slots=True)
class Result:
    """What became of one test; `words` say why, unless it passed; `figures` are what it recorded."""

    test: str
    outcome: str
    seconds: float = 0.0
    words: str = ""
    figures: dict[str, object] = field(default_factory=dict)


BEGUN = "begun"


def results(lines: Iterable[str]) -> dict[str, Result]:
    """Return the tests that need not run any more, by name, from the lines that all runs wrote."""
    found: dict[str, Result] = {}
    begun: dict[str, int] = {}
    for line in lines:
        try:
            result = Result(**json.loads(line))
        except ValueError:
            continue  # the machine died in the middle of it
        if result.outcome != BEGUN:
            found[result.test] = result
            continue
        begun[result.test] = begun.get(result.test, 0) + 1
        if begun[result.test] >= DEATHS:
            found.setdefault(result.test, Result(result.test, "died", words="the lab's machine died in it, twice"))
    return found


class Results:
    """Writes the file as tests come and go."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._current: Result | None = None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what has a result."""
        known = results(self._file.read_text().splitlines()) if self._file.exists() else {}
        left_out = [item for item in items if item.nodeid in known]
        items[:] = [item for item in items if item.nodeid not in known]
        config.hook.pytest_deselected(items=left_out)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write down that a test begins."""
        self._current = Result(nodeid, "passed")
        self._write(Result(nodeid, BEGUN))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a part of a test: the set-up, the test, the tear-down."""
        result = self._current
        assert result is not None
        result.seconds = round(result.seconds + report.duration, 2)
        result.figures |= dict(report.user_properties)
        if report.failed:
            result.outcome = "failed"
            result.words = f"{result.words}\n{report.longreprtext}".lstrip()
        elif report.skipped and result.outcome == "passed":
            result.outcome = "skipped"
            result.words = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext

    def pytest_runtest_logfinish(self) -> None:
        """Write down what became of it."""
        assert self._current is not None
        self._write(self._current)

    def _write(self, result: Result) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(Results(Path(os.environ[VARIABLE])))
