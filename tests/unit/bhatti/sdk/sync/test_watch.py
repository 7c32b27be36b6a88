from pathlib import Path

import pytest
from tests.daemons import Daemon

from bhatti.errors import NotFound
from bhatti.operations import types
from bhatti.sdk.sync.watch import Watch


def test_what_happens_inside_the_block_is_told(served: Daemon, tmp_path: Path) -> None:
    with Watch(served.endpoint, "one", {"path": str(tmp_path)}) as changes:
        (tmp_path / "new").mkdir()
        change = next(changes)
    assert change == types.FileEvent(type="change", path=f"{tmp_path}/new", change="created", is_dir=True)


def test_it_ends_when_its_time_is_up(served: Daemon, tmp_path: Path) -> None:
    changes = Watch(served.endpoint, "one", {"path": str(tmp_path), "timeout_sec": "0.05"})
    assert list(changes) == []
    changes.close()


def test_what_is_not_there_cannot_be_watched(served: Daemon) -> None:
    with pytest.raises(NotFound), Watch(served.endpoint, "one", {"path": "/no/such"}):
        pass
