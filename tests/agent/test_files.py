"""Files: written, read, described and listed, as any client of the reference protocol does."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import wait_until

from lohar.wire.frames import FrameType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection

READ, WRITE, STAT, LIST = (
    FrameType.FILE_READ_REQ,
    FrameType.FILE_WRITE_REQ,
    FrameType.FILE_STAT_REQ,
    FrameType.FILE_LS_REQ,
)


def stat(connection: Connection, path: str) -> dict[str, object]:
    return dict(connection.ask(STAT, FrameType.FILE_STAT_RESP, path=path))


# --- whole files


def test_what_is_written_can_be_read(agent: Agent) -> None:
    path = agent.path("file")
    with agent.connect() as connection:
        connection.write_file(path, b"some content\n")
    with agent.connect() as connection:
        answer, content = connection.read_file(path)
    assert content == b"some content\n"
    assert answer == {"size": 13, "mode": "0644"}


@pytest.mark.parametrize("size", [1, 32767, 32768, 32769, 262_144, 262_145, 1 << 20])
def test_every_size_survives_the_round_trip(agent: Agent, connection: Connection, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    connection.write_file(agent.path("file"), data)
    answer, content = connection.read_file(agent.path("file"))
    assert answer["size"] == size
    assert content == data


@pytest.mark.parametrize("frame", [1, 1000, 32 << 10, (1 << 20) - 1])
def test_uploads_may_be_cut_anyhow(agent: Agent, connection: Connection, frame: int) -> None:
    data = hashlib.shake_128(b"cut").digest(3000 if frame == 1 else 1 << 20)
    connection.write_file(agent.path("file"), data, frame=frame)
    assert connection.read_file(agent.path("file"))[1] == data


def test_an_empty_file_has_no_content_frame(agent: Agent, connection: Connection) -> None:
    path = agent.path("empty")
    connection.write_file(path, b"")
    assert stat(connection, path)["size"] == 0
    connection.send_json(READ, path=path)
    assert connection.expect_json(FrameType.FILE_READ_RESP)["size"] == 0
    assert connection.expect(FrameType.EXIT) == bytes(4)


def test_all_byte_values_survive(agent: Agent, connection: Connection) -> None:
    data = bytes(range(256)) * 4
    connection.write_file(agent.path("binary"), data)
    assert connection.read_file(agent.path("binary"))[1] == data


def test_names_and_content_may_be_any_text(agent: Agent, connection: Connection) -> None:
    path = agent.path("日本語 ファイル (1) 'quoted' \"double\" \\ $HOME.txt")
    connection.write_file(path, "🎉 émoji\n".encode())
    assert connection.read_file(path)[1].decode() == "🎉 émoji\n"
    assert stat(connection, path)["name"] == path.rsplit("/", 1)[1]
    assert [entry["name"] for entry in connection.list_files(agent.directory)] == [path.rsplit("/", 1)[1]]


def test_names_that_are_no_utf8_can_be_listed_and_read(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; printf data > \"$(printf 'a\\377b')\"")
    entries = connection.list_files(agent.directory)
    assert [entry["name"] for entry in entries] == ["a\udcffb"]
    assert connection.read_file(agent.path("a\udcffb"))[1] == b"data"


def test_files_that_have_no_size_are_read_to_their_end(connection: Connection) -> None:
    answer, content = connection.read_file("/proc/cpuinfo")
    assert answer["size"] == 0
    assert content == connection.exec("cat", "/proc/cpuinfo").stdout
    answer, content = connection.read_file("/proc/sys/kernel/ostype")
    assert content == b"Linux\n"


def test_a_missing_file_is_an_error(agent: Agent, connection: Connection) -> None:
    for kind in (READ, STAT, LIST):
        assert "no such file" in connection.ask_error(kind, path=agent.path("missing"))


def test_a_directory_cannot_be_read(agent: Agent, connection: Connection) -> None:
    assert "is a directory" in connection.ask_error(READ, path=agent.directory)


def test_devices_and_pipes_cannot_be_read(agent: Agent, connection: Connection) -> None:
    agent.sh(f"mkfifo {agent.path('fifo')}")
    for path in (agent.path("fifo"), "/dev/zero", "/dev/tty"):
        assert "is not a regular file" in connection.ask_error(READ, path=path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0600", "600"),
        ("0755", "755"),
        ("644", "644"),
        ("", "644"),
        ("nonsense", "644"),
        ("4755", "755"),
        ("-1", "644"),
    ],
)
def test_the_mode_is_set(agent: Agent, connection: Connection, given: str, expected: str) -> None:
    connection.write_file(agent.path("file"), b"x", mode=given)
    assert agent.sh(f"umask; stat -c %a {agent.path('file')}").split() == ["0022", expected]


def test_missing_parents_are_made(agent: Agent, connection: Connection) -> None:
    connection.write_file(agent.path("one/two/three/file"), b"deep")
    assert agent.sh(f"stat -c %a {agent.path('one/two/three')}") == "755\n"
    assert connection.read_file(agent.path("one/two/three/file"))[1] == b"deep"


def test_a_file_as_parent_is_an_error(agent: Agent, connection: Connection) -> None:
    connection.write_file(agent.path("plain"), b"x")
    assert "not a directory" in connection.ask_error(WRITE, path=agent.path("plain/below"), size=1)
    assert "not a directory" in connection.ask_error(STAT, path=agent.path("plain/below"))


def test_a_directory_cannot_be_overwritten(agent: Agent, connection: Connection) -> None:
    agent.sh(f"mkdir {agent.path('folder')}")
    assert "directory" in connection.ask_error(WRITE, path=agent.path("folder"), size=1)
    assert agent.sh(f"ls -A {agent.directory}") == "folder\n"


def test_a_negative_size_is_refused(agent: Agent, connection: Connection) -> None:
    assert "size must be >= 0" in connection.ask_error(WRITE, path=agent.path("file"), size=-1)


def test_an_absurd_size_is_refused(agent: Agent, connection: Connection) -> None:
    assert "file too large" in connection.ask_error(WRITE, path=agent.path("file"), size=1 << 50)
    assert agent.sh(f"ls -A {agent.directory}") == ""


def test_bytes_beyond_the_size_are_dropped(agent: Agent, connection: Connection) -> None:
    connection.send_json(WRITE, path=agent.path("file"), size=3)
    connection.send(FrameType.STDIN, b"abcdef")
    assert connection.expect_json(FrameType.FILE_WRITE_RESP) == {"status": "ok"}
    assert connection.read_file(agent.path("file"))[1] == b"abc"


def test_other_frames_during_an_upload_are_ignored(agent: Agent, connection: Connection) -> None:
    connection.send_json(WRITE, path=agent.path("file"), size=2)
    connection.send(FrameType.STDIN, b"a")
    connection.send(FrameType.KILL)
    connection.send(FrameType.RESIZE, bytes(4))
    connection.send(FrameType.STDIN)
    connection.send(FrameType.STDIN, b"b")
    connection.expect(FrameType.FILE_WRITE_RESP)
    assert connection.read_file(agent.path("file"))[1] == b"ab"


def test_the_longest_name_can_be_written(agent: Agent, connection: Connection) -> None:
    path = agent.path("n" * 255)
    connection.write_file(path, b"x")
    assert connection.read_file(path)[1] == b"x"
    assert "file name too long" in connection.ask_error(WRITE, path=agent.path("n" * 256), size=1)


def test_a_link_is_replaced_and_what_it_led_to_is_not(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; echo target > target; ln -s target link")
    connection.write_file(agent.path("link"), b"new")
    assert connection.read_file(agent.path("target"))[1] == b"target\n"
    assert connection.read_file(agent.path("link"))[1] == b"new"


# --- atomic


def test_a_client_that_leaves_in_the_middle_leaves_nothing(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.write_file(agent.path("file"), b"old")
    with agent.connect() as connection:
        connection.send_json(WRITE, path=agent.path("file"), size=100)
        connection.send(FrameType.STDIN, b"new")
        wait_until(lambda: agent.sh(f"ls -A {agent.directory} | wc -l").strip() == "2", "the upload has begun")
    wait_until(lambda: agent.sh(f"ls -A {agent.directory}") == "file\n", "the temporary file is gone")
    with agent.connect() as connection:
        assert connection.read_file(agent.path("file"))[1] == b"old"


def test_a_half_close_in_the_middle_is_told(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.send_json(WRITE, path=agent.path("file"), size=100)
        connection.send(FrameType.STDIN, b"part")
        connection.sock.shutdown(1)
        assert b"connection lost after 4/100 bytes" in connection.expect(FrameType.ERROR)
    assert agent.sh(f"ls -A {agent.directory}") == ""


def test_a_half_close_after_the_last_byte_is_fine(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.send_json(WRITE, path=agent.path("file"), size=4)
        connection.send(FrameType.STDIN, b"full")
        connection.sock.shutdown(1)
        connection.expect(FrameType.FILE_WRITE_RESP)


def test_a_full_disk_is_an_error_and_leaves_nothing(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        tiny = local.path("tiny")
        result = connection.exec("sh", "-c", f"mkdir {tiny} && mount -t tmpfs -o size=64k none {tiny}")
        if result.code != 0:
            pytest.skip(f"cannot mount a small file system: {result.stderr.decode().strip()}")
        try:
            connection.send_json(WRITE, path=local.path("tiny/file"), size=1 << 20)
            for _ in range(32):
                connection.send(FrameType.STDIN, bytes(32 << 10))
            assert b"no space left on device" in connection.expect(FrameType.ERROR)
            assert connection.exec("ls", "-A", local.path("tiny")).stdout == b""
        finally:
            connection.exec("umount", local.path("tiny"))


def test_ten_writers_of_ten_files(agent: Agent) -> None:
    def write(number: int) -> None:
        with agent.connect() as connection:
            connection.write_file(agent.path(f"file{number}"), f"content {number}".encode() * 1000)

    in_threads(write, 10)
    with agent.connect() as connection:
        connection.hello()
        for number in range(10):
            assert connection.read_file(agent.path(f"file{number}"))[1] == f"content {number}".encode() * 1000


def test_writers_of_the_same_file_do_not_mix(agent: Agent) -> None:
    def write(number: int) -> None:
        with agent.connect() as connection:
            connection.write_file(agent.path("file"), str(number).encode() * 100_000, frame=1000)

    in_threads(write, 5)
    with agent.connect() as connection:
        content = connection.read_file(agent.path("file"))[1]
    assert len(content) == 100_000
    assert len(set(content)) == 1
    assert agent.sh(f"ls -A {agent.directory}") == "file\n"


def test_readers_see_the_old_or_the_new_content(agent: Agent) -> None:
    contents = [bytes([letter]) * 50_000 for letter in b"ab"]
    done = threading.Event()
    wrong: list[int] = []
    with agent.connect() as connection:
        connection.write_file(agent.path("file"), contents[0])

    def read(_number: int) -> None:
        with agent.connect() as connection:
            connection.hello()
            while not done.is_set():
                content = connection.read_file(agent.path("file"))[1]
                if content not in contents:
                    wrong.append(len(content))

    def write() -> None:
        with agent.connect() as connection:
            connection.hello()
            for number in range(40):
                connection.write_file(agent.path("file"), contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    in_threads(read, 2)
    writer.join()
    assert not wrong


def test_what_was_written_is_seen_at_once(agent: Agent, connection: Connection) -> None:
    for number in range(10):
        data = f"round {number}\n".encode() * 100
        connection.write_file(agent.path("file"), data)
        assert connection.read_file(agent.path("file"))[1] == data


def in_threads(run: object, count: int) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            run(number)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- stat and list


def test_a_file_is_described(agent: Agent, connection: Connection) -> None:
    connection.write_file(agent.path("file"), b"1234567")
    description = stat(connection, agent.path("file"))
    mtime = int(agent.sh(f"stat -c %Y {agent.path('file')}"))
    assert description == {"name": "file", "size": 7, "mode": "0644", "is_dir": False, "mtime": mtime}


def test_a_directory_is_described(agent: Agent, connection: Connection) -> None:
    description = stat(connection, agent.directory + "/")
    assert description["is_dir"] is True
    assert description["name"] == agent.directory.rsplit("/", 1)[1]
    assert stat(connection, "/")["name"] == "/"


def test_stat_follows_links_and_list_does_not(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; printf 12345 > file; ln -s file link; ln -s nowhere dangling; ln -s / root")
    assert stat(connection, agent.path("link"))["size"] == 5
    assert stat(connection, agent.path("root"))["is_dir"] is True
    assert "no such file" in connection.ask_error(STAT, path=agent.path("dangling"))
    entries = {entry["name"]: entry for entry in connection.list_files(agent.directory)}
    assert set(entries) == {"file", "link", "dangling", "root"}
    assert entries["root"]["is_dir"] is False


def test_a_directory_is_listed_by_name(agent: Agent, connection: Connection) -> None:
    agent.sh(f"cd {agent.directory}; mkdir b; touch c a .hidden; chmod 600 c; printf xyz > a")
    entries = connection.list_files(agent.directory)
    assert [entry["name"] for entry in entries] == [".hidden", "a", "b", "c"]
    assert [entry["is_dir"] for entry in entries] == [False, False, True, False]
    assert entries[1]["size"] == 3
    assert entries[3]["mode"] == "0600"


def test_an_empty_directory_has_no_entries(agent: Agent, connection: Connection) -> None:
    assert connection.list_files(agent.directory) == []
    assert connection.list_files(agent.directory, chunked=True) == []


def test_a_file_cannot_be_listed(agent: Agent, connection: Connection) -> None:
    connection.write_file(agent.path("file"), b"x")
    assert "not a directory" in connection.ask_error(LIST, path=agent.path("file"))
    agent.sh(f"mkfifo {agent.path('fifo')}")
    assert "not a directory" in connection.ask_error(LIST, path=agent.path("fifo"))


@pytest.fixture
def large(agent: Agent) -> Iterator[str]:
    """A directory for many files, in memory if there is a place for it: a disk takes its time for each."""
    path = agent.sh(f"mktemp -d -p /dev/shm 2>/dev/null || mktemp -d -p {agent.directory}").strip()
    yield path
    agent.sh(f"rm -rf {path}", patience_s=MANY_FILES_S)


MANY_FILES_S = 60.0


def make_files(agent: Agent, directory: str, count: int, form: str = "%g") -> list[str]:
    """Make so many files; return their names, sorted."""
    agent.sh(f"cd {directory}; seq -f {form} 1 {count} | xargs touch", patience_s=MANY_FILES_S)
    return sorted(form.replace("%g", str(number)) for number in range(1, count + 1))


def test_the_reference_limit_to_entries_tells_the_truth(agent: Agent, connection: Connection, large: str) -> None:
    names = make_files(agent, large, 10_020)
    entries = connection.list_files(large)
    assert len(entries) == 10_001
    assert entries[-1] == {
        "name": "... truncated at 10000 entries (10020 total)",
        "size": 0,
        "mode": "",
        "is_dir": False,
        "mtime": 0,
    }
    assert [entry["name"] for entry in entries[:-1]] == names[:10_000]


def test_ten_thousand_entries_are_one_answer(agent: Agent, connection: Connection, large: str) -> None:
    make_files(agent, large, 10_000)
    assert len(connection.list_files(large)) == 10_000
    assert connection.exec("true").code == 0


def test_names_too_long_for_one_answer_come_in_several(agent: Agent, connection: Connection, large: str) -> None:
    names = make_files(agent, large, 5000, "n" * 200 + "%g")
    connection.send_json(LIST, path=large)
    found = []
    answers = 0
    while (frame := connection.receive())[0] == FrameType.FILE_LS_RESP:
        found += [entry["name"] for entry in json.loads(frame[1])]
        answers += 1
    assert frame == (FrameType.EXIT, bytes(4))
    assert answers > 1
    assert found == names


@pytest.mark.timeout(300)
def test_a_hundred_thousand_entries_come_in_pieces_and_hold_nobody_up(
    local: LocalAgent, connection: Connection, large: str
) -> None:
    agent = local  # a machine under emulation takes a minute to make them
    names = make_files(agent, large, 100_000)
    with agent.connect() as other:
        other.hello()
        connection.send_json(LIST, path=large, chunked=True)
        # The other connection is served while the listing goes on: it does not come before its turn, nor much later.
        assert other.exec("echo", "served").stdout == b"served\n"
        found = []
        while (frame := connection.receive())[0] == FrameType.FILE_LS_RESP:
            found += [entry["name"] for entry in json.loads(frame[1])]
    assert frame[0] == FrameType.EXIT
    assert found == names


def test_a_directory_that_may_not_be_entered_is_an_error(local: LocalAgent) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may enter every directory")
    local.sh(f"mkdir {local.path('closed')}; touch {local.path('closed/file')}; chmod 400 {local.path('closed')}")
    with local.connect() as connection:
        assert "permission denied" in connection.ask_error(LIST, path=local.path("closed"))
    local.sh(f"chmod 700 {local.path('closed')}")
