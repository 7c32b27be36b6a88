from pathlib import Path

import pytest
from tests.daemons import Daemon

from bhatti.errors import NotFound
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


def test_directories_travel_as_one_stream(served: Daemon, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "file").write_bytes(b"x" * 1_000_000)
    target = f"/sandboxes/one/files/archive?path={tmp_path}"

    def steps() -> Steps[None]:
        yield Exchange(method="PUT", target=f"{target}/there", source=f"{tmp_path}/from", tree=True)
        yield Exchange(method="GET", target=f"{target}/there", sink=f"{tmp_path}/back", tree=True)

    driver = Driver(served.endpoint)
    driver.run(steps())
    assert (tmp_path / "back" / "sub" / "file").read_bytes() == b"x" * 1_000_000
    driver.close()


def test_a_directory_that_is_not_there_is_no_lost_connection(served: Daemon, tmp_path: Path) -> None:
    def steps() -> Steps[None]:
        target = f"/sandboxes/one/files/archive?path={tmp_path}/there"
        yield Exchange(method="PUT", target=target, source=f"{tmp_path}/none", tree=True)

    driver = Driver(served.endpoint)
    with pytest.raises(NotFound) as caught:
        driver.run(steps())
    assert caught.value.code == "no-such-file"
    driver.close()
