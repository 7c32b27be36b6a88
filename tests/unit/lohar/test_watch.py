import sys
from pathlib import Path

import pytest
from tests.unit.lohar.serving import Client

from lohar.wire.frames import FrameType

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def watch(client: Client, path: Path, *, recursive: bool = False) -> None:
    client.send(FrameType.FILE_WATCH_REQ, path=str(path), recursive=recursive)
    assert client.json(FrameType.FILE_WATCH_EVENT) == {"events": []}


def events_until(client: Client, kind: str, path: Path) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    while (kind, str(path)) not in seen:
        for event in client.json(FrameType.FILE_WATCH_EVENT)["events"]:
            seen.append((event["kind"], event["path"]))
    return seen


def test_a_files_life_is_told(client: Client, tmp_path: Path) -> None:
    watch(client, tmp_path)
    target = tmp_path / "file"
    target.write_text("x")
    target.rename(tmp_path / "other")
    (tmp_path / "other").unlink()
    kinds = [kind for kind, _ in events_until(client, "deleted", tmp_path / "other")]
    assert kinds[0] == "created"
    assert [kind for kind in kinds if kind.startswith("moved")] == ["moved-from", "moved-to"]
    assert "modified" in kinds


def test_what_appears_in_a_new_directory_is_told_too(client: Client, tmp_path: Path) -> None:
    watch(client, tmp_path, recursive=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    events_until(client, "created", tmp_path / "a" / "b" / "file")


def test_without_asking_for_it_nothing_below_is_told(client: Client, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    watch(client, tmp_path)
    (tmp_path / "below" / "file").touch()
    (tmp_path / "here").touch()
    assert all("below/file" not in path for _, path in events_until(client, "created", tmp_path / "here"))


def test_kill_ends_it(client: Client, tmp_path: Path) -> None:
    watch(client, tmp_path)
    client.send(FrameType.KILL)
    assert client.output()[2] == 0
    client.send(FrameType.ACTIVITY_REQ)
    client.expect(FrameType.ACTIVITY_RESP)


def test_a_missing_path_and_too_many_directories_are_refused(client: Client, tmp_path: Path) -> None:
    client.send(FrameType.FILE_WATCH_REQ, path="/nonexistent")
    assert "no such file" in client.error()
    agent = client._serving.agent
    agent.limits = agent.limits.replace(watches=2)
    for name in "abc":
        (tmp_path / name).mkdir()
    client.send(FrameType.FILE_WATCH_REQ, path=str(tmp_path), recursive=True)
    assert "more than 2 directories" in client.error()
