from pathlib import Path

import pytest
from tests.daemons import Daemon

from bhatti.operations import table
from bhatti.sdk.steps import Exchange, Local, Pause, Steps, called
from bhatti.sdk.sync.driver import Driver


def test_outcomes_go_back_in_and_what_is_returned_comes_out(served: Daemon) -> None:
    def steps() -> Steps[int]:
        yield Pause(0)
        found: int = yield Local(lambda: 41)
        return found + 1

    driver = Driver(served.endpoint)
    assert driver.run(steps()) == 42
    assert "one" in [found.name for found in driver.run(called(table.SANDBOX_LIST))]
    driver.close()


def test_failures_are_thrown_in(served: Daemon) -> None:
    def steps() -> Steps[str]:
        try:
            yield Local(lambda: 1 // 0)
        except ZeroDivisionError:
            return "caught"
        return "not thrown"

    assert Driver(served.endpoint).run(steps()) == "caught"


def test_a_file_that_cannot_be_written_leaves_no_draft(served: Daemon, tmp_path: Path) -> None:
    def steps() -> Steps[None]:
        yield Exchange(method="GET", target="/openapi.json", sink=f"{tmp_path}/taken")

    (tmp_path / "taken" / "full").mkdir(parents=True)
    driver = Driver(served.endpoint)
    with pytest.raises(OSError, match="taken"):
        driver.run(steps())
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    driver.close()
