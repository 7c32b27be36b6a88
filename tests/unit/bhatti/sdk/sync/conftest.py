import doctest
from collections.abc import Callable, Iterator

import pytest

from bhatti import Sandbox


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
