import json
import signal
import sqlite3
import subprocess
from pathlib import Path

from tests.daemons import Daemon
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.errors import Conflict, InvalidRequest, Unavailable


def test_events_are_a_table_and_json(bhatti: Bhatti) -> None:
    done = bhatti("events", "one")
    assert done.code == 0
    heading, first, *_ = done.out.splitlines()
    assert heading.split() == ["ID", "TIME", "SANDBOX", "WHAT", "DETAIL"]
    assert first.split()[3:5] == ["one", "created"]
    (made, *_) = bhatti("events", "--json", "--limit", "1", "--since", "0").json()
    assert made["kind"] == "created"
    assert bhatti("events", "-q", "one").out.split()[0] == first.split()[0]
    assert bhatti("events", "--limit", "0").code == InvalidRequest.exit_code


def test_what_never_was_has_no_events_and_that_is_said(bhatti: Bhatti) -> None:
    done = bhatti("events", "nobody")
    assert (done.code, done.out) == (4, "")
    assert "there is no sandbox 'nobody'" in done.err
    bhatti("create", "gone")
    bhatti("rm", "gone")
    assert [event["kind"] for event in bhatti("events", "gone", "--json").json()] == ["created", "destroyed"]
    last = bhatti("events", "one", "--json").json()[-1]["id"]
    assert bhatti("events", "one", "--since", str(last), "--json").json() == []


def test_following_begins_with_what_was_and_goes_on(served: Daemon) -> None:
    with served.popen("events", "--follow", "--json", "followed", stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        served.out("create", "followed")
        served.out("rm", "followed")
        kinds = [json.loads(watching.stdout.readline())["kind"] for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
    assert kinds == ["created", "destroyed"]
    with served.popen("events", "-f", "followed", stdout=subprocess.PIPE) as again:
        assert again.stdout is not None
        lines = [again.stdout.readline().decode() for _ in range(2)]
        again.send_signal(signal.SIGINT)
    assert [line.split()[4] for line in lines] == ["created", "destroyed"]


def test_a_backup_is_a_file_of_ones_own(bhatti: Bhatti, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    done = bhatti("backup", str(file), "--json")
    assert done.json() == {"file": str(file), "size_bytes": file.stat().st_size}
    assert file.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert bhatti("backup", str(file)).code == Conflict.exit_code
    assert bhatti("backup", str(file), "--force").out.startswith(f"{file}\t")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]


def test_a_backup_that_cannot_be_written_leaves_nothing(bhatti: Bhatti, tmp_path: Path) -> None:
    assert bhatti("backup", str(tmp_path / "missing" / "copy.db")).code == Unavailable.exit_code
    assert list(tmp_path.iterdir()) == []
