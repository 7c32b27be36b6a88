import signal
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.unit.bhatti.cli.conftest import Bhatti


def test_what_is_written_is_read_back(served: Daemon, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    path = str(tmp_path / "new" / "file")
    assert served.out("file", "write", "one", path, "--mode", "0600", stdin=data) == b"ok\n"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert served.out("file", "read", "one", path) == data
    assert served.out("file", "write", "one", path, "--json", stdin=b"") == b'{"status":"ok"}\n'
    assert served.out("file", "read", "one", path) == b""


def test_a_file_is_uploaded_as_it_is(served: Daemon, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"x" * 1_000_000)
    with (tmp_path / "from").open("rb") as source:
        assert served.popen("file", "write", "one", f"{tmp_path}/to", stdin=source).wait(60) == 0
    assert (tmp_path / "to").read_bytes() == b"x" * 1_000_000


def test_some_lines_are_read(bhatti: Bhatti, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a\nb\nc\n")
    path = str(tmp_path / "file")
    assert bhatti("file", "read", "one", path, "--offset", "2", "--limit", "1").out == "b\n"
    assert bhatti("file", "read", "one", path, "--max-bytes", "3").out == "a\nb"
    assert bhatti("file", "read", "one", path, "--json").json() == {
        "path": path,
        "size": 6,
        "mode": "0644",
        "content": "a\nb\nc\n",
    }


def test_a_directory_is_listed(bhatti: Bhatti, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o755)
    (tmp_path / "file").write_bytes(b"12345")
    lines = bhatti("file", "ls", "one", str(tmp_path)).out.splitlines()
    assert lines[0].split() == ["MODE", "SIZE", "MODIFIED", "NAME"]
    assert lines[1].startswith("drwxr-xr-x")
    assert lines[2].split()[:2] == ["-rw-r--r--", "5"]
    assert [entry["name"] for entry in bhatti("file", "ls", "one", str(tmp_path), "--json").json()] == ["dir", "file"]
    assert bhatti("file", "ls", "one", str(tmp_path), "-q").out == "dir\nfile\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["read", "one", "/no/such"], 4),
        (["ls", "one", "/no/such"], 4),
        (["ls", "one", "/etc/passwd"], 1),
        (["read", "one", "/etc"], 1),
        (["read", "nobody", "/etc/passwd"], 4),
        (["read", "one"], 2),
        (["read", "one", ""], 2),
    ],
)
def test_what_cannot_be_done_is_told(bhatti: Bhatti, arguments: list[str], code: int) -> None:
    done = bhatti("file", *arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("bhatti: ")


def test_what_cannot_be_written_is_told(served: Daemon) -> None:
    for arguments, code in (("/etc/passwd/x", 1), ("/etc", 1)):
        done = served.bhatti("file", "write", "one", arguments, stdin=b"x" * 3_000_000)
        assert done.returncode == code
        assert b"Traceback" not in done.stderr
    assert served.bhatti("file", "write", "one", "/tmp/x", "--mode", "rwx", stdin=b"").returncode == 2


def test_the_group_alone_shows_its_help(bhatti: Bhatti) -> None:
    done = bhatti("file")
    assert done.code == 2
    assert "Usage: bhatti file" in done.err


def test_files_are_looked_after(bhatti: Bhatti, tmp_path: Path) -> None:
    assert bhatti("file", "mkdir", "one", f"{tmp_path}/a/b", "--mode", "0700").out == "ok\n"
    (tmp_path / "file").write_bytes(b"12345")
    assert bhatti("file", "mv", "one", f"{tmp_path}/file", f"{tmp_path}/a").out == "ok\n"
    assert bhatti("file", "mv", "-q", "one", f"{tmp_path}/a/file", f"{tmp_path}/a/b/new").out == ""
    shown = bhatti("file", "stat", "one", f"{tmp_path}/a/b/new").out
    assert [line.split()[:2] for line in shown.splitlines()][1:3] == [["mode", "-rw-r--r--"], ["size", "5"]]
    assert bhatti("file", "stat", "one", f"{tmp_path}/a", "--json").json()["is_dir"] is True
    assert bhatti("file", "rm", "one", f"{tmp_path}/a").code == 5
    assert bhatti("file", "rm", "one", f"{tmp_path}/none", f"{tmp_path}/a/b/new").code == 4
    assert bhatti("file", "rm", "-f", "one", f"{tmp_path}/none", "--json").json() == {f"{tmp_path}/none": "absent"}
    assert bhatti("file", "rm", "-f", "nobody", f"{tmp_path}/none").code == 4
    assert bhatti("file", "rm", "-r", "one", f"{tmp_path}/a").out == "deleted\n"
    assert list(tmp_path.iterdir()) == []


def test_relative_paths_begin_where_commands_run(served: Daemon, bhatti: Bhatti) -> None:
    home = bhatti("exec", "one", "--", "pwd").out.strip()
    assert served.out("file", "write", "one", "notes/today", stdin=b"one\n") == b"ok\n"
    assert bhatti("exec", "one", "--", "cat", "notes/today").out == "one\n"
    assert bhatti("file", "read", "one", "notes/today", "--json").json()["path"] == f"{home}/notes/today"
    assert bhatti("file", "stat", "one", "notes").out.split()[:2] == ["path", f"{home}/notes"]
    assert "notes" in bhatti("file", "ls", "one", "-q").out.splitlines()
    assert bhatti("file", "ls", "one", "notes", "-q").out == "today\n"
    assert bhatti("file", "mkdir", "one", "notes/old").out == "ok\n"
    assert bhatti("file", "mv", "one", "notes/today", "notes/old").out == "ok\n"
    assert Path(home, "notes", "old", "today").read_text() == "one\n"
    assert bhatti("file", "watch", "one", "notes", "--timeout", "0.05").err == "watching\n"
    assert bhatti("file", "rm", "-r", "one", "notes", "--json").json() == {"notes": "deleted"}


def test_files_are_copied(bhatti: Bhatti, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert bhatti("file", "cp", f"{tmp_path}/file", f"one:{tmp_path}/to").out == f"one:{tmp_path}/to\t5 bytes\n"
    copy = bhatti("file", "cp", "--json", f"one:{tmp_path}/to", f"{tmp_path}/back").json()
    assert copy == {"source": f"one:{tmp_path}/to", "target": f"{tmp_path}/back", "size_bytes": 5, "left_out": []}
    assert bhatti("file", "cp", "-q", f"one:{tmp_path}/to", f"{tmp_path}/back").out == ""
    assert bhatti("file", "cp", f"one:{tmp_path}", "-").out.startswith(tmp_path.name)


def test_changes_are_told_as_they_happen(served: Daemon, tmp_path: Path) -> None:
    for options in ([], ["--json"]):
        watching = served.popen(
            "file", "watch", "-r", "--timeout", "60", "one", str(tmp_path), *options, stdout=-1, stderr=-1
        )
        assert watching.stdout is not None
        assert watching.stderr is not None
        ready = watching.stdout if options else watching.stderr
        assert ready.readline() in (b"watching\n", b'{"type":"ready"}\n')
        (tmp_path / f"new{len(options)}").mkdir()
        assert f"{tmp_path}/new{len(options)}".encode() in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
        watching.stdout.close()
        watching.stderr.close()


def test_a_watch_ends_when_its_time_is_up(bhatti: Bhatti, tmp_path: Path) -> None:
    done = bhatti("file", "watch", "one", str(tmp_path), "--timeout", "0.05")
    assert (done.code, done.out, done.err) == (0, "", "watching\n")
    assert bhatti("file", "watch", "one", "/no/such").code == 4
