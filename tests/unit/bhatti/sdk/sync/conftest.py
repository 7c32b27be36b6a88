import doctest
from collections.abc import Callable, Iterator

import pytest
from tests.daemons import Daemon

from bhatti import Sandbox


@pytest.fixture
def address(served: Daemon, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the daemon is; the environment says so too."""
    for name in ("BHATTI_API_KEY", "BHATTI_STATE_DIR", "BHATTI_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BHATTI_URL", str(served.endpoint))
    return str(served.endpoint)


@pytest.fixture
def sb(address: str) -> Iterator[Sandbox]:
    with Sandbox.create() as sandbox:
        yield sandbox


@pytest.fixture
def examples(sb: Sandbox) -> Callable[[type], int]:
    """Run the examples in the docstrings of a class, and return how many there were."""

    def run(described: type) -> int:
        runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
        for found in doctest.DocTestFinder().find(described, globs={"sb": sb, "Sandbox": Sandbox}):
            runner.run(found)
        assert runner.failures == 0
        return runner.tries

    return run
