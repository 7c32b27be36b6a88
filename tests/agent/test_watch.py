"""FILE_WATCH: what happens to files is told as it happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection

Event = tuple[str, str]


class Watch:
    """A watch that stands."""

    def __init__(self, connection: Connection, path: str, *, recursive: bool = False) -> None:
        self.connection = connection
        self.overflows = 0
        connection.send_json(FrameType.FILE_WATCH_REQ, path=path, recursive=recursive)
        assert connection.expect_json(FrameType.FILE_WATCH_EVENT) == {"events": []}

    def until(self, kind: str, path: str) -> list[dict[str, Any]]:
        """Return all events up to the one that is waited for."""
        events: list[dict[str, Any]] = []
        while (kind, path) not in [(event["kind"], event["path"]) for event in events]:
            message = json.loads(self.connection.expect(FrameType.FILE_WATCH_EVENT))
            events += message["events"]
            self.overflows += message.get("overflow", False)
        return events

    def end(self) -> None:
        self.connection.send(FrameType.KILL)
        while (frame := self.connection.receive())[0] == FrameType.FILE_WATCH_EVENT:
            pass
        assert frame == (FrameType.EXIT, bytes(4))


def kinds(events: list[dict[str, Any]], path: str) -> list[str]:
    return [event["kind"] for event in events if event["path"] == path]


def test_the_life_of_a_file_is_told(agent: Agent, connection: Connection) -> None:
    watch = Watch(connection, agent.directory)
    path, moved = agent.path("file"), agent.path("moved")
    agent.sh(f"echo x > {path}; chmod 600 {path}; mv {path} {moved}; rm {moved}")
    events = watch.until("deleted", moved)
    assert kinds(events, path)[0] == "created"
    assert kinds(events, path)[-1] == "moved-from"
    assert {"modified", "attributes"} <= set(kinds(events, path))
    assert kinds(events, moved) == ["moved-to", "deleted"]
    watch.end()
    assert connection.exec("echo", "and on").stdout == b"and on\n"


def test_directories_are_told_apart(agent: Agent, connection: Connection) -> None:
    watch = Watch(connection, agent.directory)
    agent.sh(f"mkdir {agent.path('folder')}; touch {agent.path('end')}")
    events = watch.until("created", agent.path("end"))
    assert {event["path"]: event.get("is_dir", False) for event in events if event["kind"] == "created"} == {
        agent.path("folder"): True,
        agent.path("end"): False,
    }


def test_a_plain_watch_does_not_look_below(agent: Agent, connection: Connection) -> None:
    agent.sh(f"mkdir {agent.path('folder')}")
    watch = Watch(connection, agent.directory)
    agent.sh(f"touch {agent.path('folder/inside')}; touch {agent.path('end')}")
    events = watch.until("created", agent.path("end"))
    assert kinds(events, agent.path("folder/inside")) == []


def test_a_recursive_watch_sees_everything_below(agent: Agent, connection: Connection) -> None:
    agent.sh(f"mkdir -p {agent.path('a/b/c')}")
    watch = Watch(connection, agent.directory, recursive=True)
    agent.sh(f"echo x > {agent.path('a/b/c/deep')}")
    assert kinds(watch.until("modified", agent.path("a/b/c/deep")), agent.path("a/b/c/deep"))[0] == "created"


def test_directories_that_come_later_are_watched_and_none_of_their_files_is_missed(
    agent: Agent, connection: Connection
) -> None:
    watch = Watch(connection, agent.directory, recursive=True)
    made = agent.sh(
        f"cd {agent.directory}; for i in 1 2 3 4 5 6 7 8; do mkdir -p n$i/m/o; echo x > n$i/m/o/file; done; "
        f"mkdir ../files-outside; echo x > ../files-outside/inside; mv ../files-outside n9; touch end; find n*"
    ).split()
    events = watch.until("created", agent.path("end"))
    seen = {event["path"] for event in events if event["kind"] in ("created", "moved-to")}
    missing = {agent.path(name) for name in made} - seen
    for path in missing:  # what was made just before the end may be told just after it
        watch.until("created", path)
    agent.sh(f"echo more >> {agent.path('n9/inside')}")
    watch.until("modified", agent.path("n9/inside"))


def test_a_moved_directory_takes_its_watch_along(agent: Agent, connection: Connection) -> None:
    agent.sh(f"mkdir -p {agent.path('old/below')}")
    watch = Watch(connection, agent.directory, recursive=True)
    agent.sh(f"mv {agent.path('old')} {agent.path('new')}; touch {agent.path('new/below/file')}")
    watch.until("created", agent.path("new/below/file"))


def test_a_single_file_can_be_watched(agent: Agent, connection: Connection) -> None:
    agent.sh(f"echo x > {agent.path('file')}")
    watch = Watch(connection, agent.path("file"))
    agent.sh(f"echo y >> {agent.path('file')}; rm {agent.path('file')}")
    events = watch.until("deleted", agent.path("file"))
    assert "modified" in kinds(events, agent.path("file"))


def test_names_of_any_bytes_are_told(agent: Agent, connection: Connection) -> None:
    watch = Watch(connection, agent.directory)
    agent.sh(f"cd {agent.directory}; touch \"$(printf 'a\\377b')\" 'näme ☃'")
    watch.until("created", agent.path("näme ☃"))
    agent.sh(f"cd {agent.directory}; rm \"$(printf 'a\\377b')\"")
    watch.until("deleted", agent.path("a\udcffb"))


def test_a_missing_path_cannot_be_watched(agent: Agent, connection: Connection) -> None:
    assert "no such file" in connection.ask_error(FrameType.FILE_WATCH_REQ, path=agent.path("missing"))


def test_many_events_at_once_arrive_or_are_declared_lost(agent: Agent, connection: Connection) -> None:
    watch = Watch(connection, agent.directory)
    agent.sh(f"cd {agent.directory}; seq -f f%g 1 5000 | xargs touch; touch end")
    events = watch.until("created", agent.path("end"))
    created = {event["path"] for event in events if event["kind"] == "created"}
    assert len(created) == 5001 or watch.overflows


def test_a_watcher_that_does_not_listen_is_told_that_it_missed_something(local: LocalAgent) -> None:
    with local.connect() as connection:
        watch = Watch(connection, local.directory)
        with open("/proc/sys/fs/inotify/max_queued_events") as file:  # noqa: PTH123 - it is read once
            queue = int(file.read())
        if queue > 100_000:
            pytest.skip(f"the kernel queues {queue} events: too many to overflow it in a test")
        before = local.memory_kib()
        name = local.path("n" * 200)
        script = "import os, sys\nname, count = sys.argv[1:]\n"
        script += "for _ in range(int(count)): os.close(os.open(name, 577)); os.unlink(name)"
        with local.connect() as other:
            result = other.exec("/usr/bin/python3", "-c", script, name, str(queue), patience_s=60)
            assert result.code == 0, result.stderr
        local.sh(f"touch {local.path('end')}")
        assert local.memory_kib() - before < 8192
        while not watch.overflows:
            message = connection.expect_json(FrameType.FILE_WATCH_EVENT)
            watch.overflows += message.get("overflow", False)


def test_a_watch_ends_with_its_client_and_leaves_nothing(local: LocalAgent) -> None:
    descriptors = local.descriptors()
    for _ in range(5):
        with local.connect() as connection:
            Watch(connection, local.directory, recursive=True)
    local.sh("true")
    assert local.descriptors() <= descriptors + 1
