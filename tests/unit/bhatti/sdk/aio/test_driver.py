from pathlib import Path

import pytest
from tests.daemons import Daemon

from bhatti.errors import BhattiError
from bhatti.operations import table
from bhatti.sdk.aio.driver import Driver
from bhatti.sdk.aio.finishing import in_thread
from bhatti.sdk.steps import Exchange, Local, Pause, Steps, called

pytestmark = pytest.mark.anyio


async def test_outcomes_go_back_in_and_what_is_returned_comes_out(served: Daemon) -> None:
    def steps() -> Steps[int]:
        yield Pause(0)
        found: int = yield Local(lambda: 41)
        return found + 1

    driver = Driver(served.endpoint)
    assert await driver.run(steps()) == 42
    assert "one" in [found.name for found in await driver.run(called(table.SANDBOX_LIST))]
    driver.close()


async def test_failures_are_thrown_in(served: Daemon) -> None:
    def steps() -> Steps[str]:
        try:
            yield Local(lambda: 1 // 0)
        except ZeroDivisionError:
            return "caught"
        return "not thrown"

    assert await Driver(served.endpoint).run(steps()) == "caught"
    with pytest.raises(BhattiError):
        await Driver(served.endpoint).run_first(called(table.SANDBOX_GET, id="nobody"))


async def test_a_file_that_cannot_be_written_leaves_no_draft(served: Daemon, tmp_path: Path) -> None:
    def steps() -> Steps[None]:
        yield Exchange(method="GET", target="/openapi.json", sink=f"{tmp_path}/taken")

    (tmp_path / "taken" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        await Driver(served.endpoint).run(steps())
    assert [path.name for path in await in_thread(lambda: [*tmp_path.iterdir()])] == ["taken"]


async def test_a_file_that_is_not_there_is_not_sent(served: Daemon, tmp_path: Path) -> None:
    def steps() -> Steps[None]:
        yield Exchange(method="PUT", target="/sandboxes/one/files?path=/x", source=f"{tmp_path}/nothing")

    with pytest.raises(FileNotFoundError):
        await Driver(served.endpoint).run(steps())
