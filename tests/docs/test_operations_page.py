"""What docs/operations.md tells people to do can be done."""

import configparser
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon, daemon

from bhatti.daemon import settings

PAGE = (ROOT / "docs" / "operations.md").read_text()
UNIT = ROOT / "packaging" / "bhatti.service"


@pytest.fixture
def served() -> Iterator[Daemon]:
    with daemon() as found:
        yield found


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze; the Debian package is systemd")
    # It wants the program to be there, which /opt/bhatti need not be where tests run.
    (tmp_path / "bhatti.service").write_text(UNIT.read_text().replace("/opt/bhatti/bin/bhatti", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "bhatti.service")], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "bhatti.service" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_unit_leaves_the_sandboxes_alone() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["Type"] == "notify"


def test_a_daemon_that_ends_as_the_unit_ends_it_leaves_its_machines_to_the_next(served: Daemon) -> None:
    served.out("create", "one")
    served.out("exec", "one", "--", "sh", "-c", "echo kept > note")
    assert served.stop(signal.SIGTERM) == 0  # what KillMode=process sends, and to nobody else
    served.start()
    assert served.out("exec", "one", "--", "cat", "note") == b"kept\n"


def test_a_backup_can_be_put_in_the_place_of_a_damaged_store(served: Daemon) -> None:
    served.out("create", "before")
    served.out("backup", str(served.directory / "copy.db"))
    served.out("create", "after")
    served.stop()
    for path in served.directory.glob("state.db*"):
        path.unlink()
    shutil.copy(served.directory / "copy.db", served.directory / "state.db")
    served.start()
    assert [found["name"] for found in json.loads(served.out("ls", "--json"))] == ["before"]
    assert "is left alone: the store is new or was restored" in served.log
    served.out("exec", "before", "--", "true")
    served.stop()
    served.start()  # the machine that nobody knows goes now
    assert "no row knows it" in served.log


def test_a_store_of_the_future_is_refused(served: Daemon) -> None:
    served.stop()
    connection = sqlite3.connect(served.directory / "state.db")
    connection.execute("PRAGMA user_version=9999")
    connection.close()
    with pytest.raises(AssertionError, match="store-too-new"):
        served.start()
    served.process = None
    connection = sqlite3.connect(served.directory / "state.db")
    connection.execute("PRAGMA user_version=1")
    connection.close()
    for path in served.directory.glob("state.db*"):
        path.unlink()


def test_every_setting_that_the_page_names_exists() -> None:
    block = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    section, names = "", []
    for line in block[1].splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif "=" in line:
            names.append(section + line.partition(" ")[0])
    assert names
    assert set(names) <= set(settings.FIELDS)
    assert {"log_format", "stop_all"} <= set(settings.FIELDS)


def test_the_figures_that_the_page_names_are_told(served: Daemon) -> None:
    served.out("create", "one")
    served.stop()
    served.start()
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", f"{served.directory}/run/bhatti.sock", "http://bhatti/metrics"],
        capture_output=True,
        text=True,
        check=True,
    )
    named = set(re.findall(r"`(bhatti_[a-z_]+)", PAGE))
    assert named
    assert not [name for name in named if name.removesuffix("_count") not in done.stdout]
