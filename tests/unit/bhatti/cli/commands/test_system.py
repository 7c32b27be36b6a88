import importlib.metadata
import json
from pathlib import Path

import pytest
from tests.daemons import LOCAL, ROOT, Daemon
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.commands import system as module
from bhatti.errors import Unavailable
from bhatti.operations import types

OURS = importlib.metadata.version("bhatti")


@pytest.fixture
def nobody(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bhatti:
    """The command line of somebody whose daemon does not run."""
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BHATTI_ENGINE", LOCAL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return bhatti


def test_version_tells_client_and_daemon(bhatti: Bhatti, served: Daemon) -> None:
    assert served.process is not None
    done = bhatti("version")
    assert done.out.splitlines()[0] == f"client  {OURS}"
    assert f"pid {served.process.pid}" in done.out
    assert bhatti("version", "--json").json()["daemon"]["pid"] == served.process.pid
    assert bhatti("version", "--wait", "5").code == 0


def test_version_does_without_a_daemon(nobody: Bhatti, tmp_path: Path) -> None:
    assert f"not running at unix://{tmp_path}/run/bhatti.sock" in nobody("version").out
    assert nobody("version", "--json").json() == {"client": OURS, "daemon": None}
    assert nobody("version", "--wait", "0.05").code == Unavailable.exit_code


def test_version_tells_of_a_daemon_in_trouble(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    class Troubled:
        def call(self, *arguments: object) -> object:
            raise Unavailable("lost", code="connection-lost")

    monkeypatch.setattr(module, "client", Troubled)
    assert bhatti("version").code == Unavailable.exit_code


def test_the_doctor_reports_with_and_without_a_daemon(bhatti: Bhatti) -> None:
    done = bhatti("doctor")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["WHAT", "STATUS", "DETAIL"]
    assert bhatti("doctor", "--json").json()["ok"] is True


def test_the_doctor_needs_no_daemon(nobody: Bhatti) -> None:
    assert nobody("doctor", "--json").json()["ok"] is True


def test_the_doctor_says_what_to_install(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ill:
        def call(self, *arguments: object) -> types.DoctorReport:
            check = types.Check(name="qemu", status="failed", detail="not installed", hint="apt install qemu")
            return types.DoctorReport(ok=False, checks=[check], apt=["qemu", "zstd"])

    monkeypatch.setattr(module, "client", Ill)
    done = bhatti("doctor")
    assert done.code == 71
    assert "qemu: apt install qemu\ninstall what is missing: apt install qemu zstd\n" in done.out


def test_the_settings_are_shown(nobody: Bhatti, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "bhatti").mkdir()
    (tmp_path / "bhatti" / "config.toml").write_text("[defaults]\ncpus = 2\n")
    shown = nobody("config", "--json").json()
    assert (shown["state_dir"], shown["images_dir"]) == (str(tmp_path), f"{tmp_path}/images")
    assert shown["defaults"]["cpus"] == 2
    assert f"{tmp_path}/bhatti/config.toml" in shown["files"]
    assert shown["url"] == f"unix://{tmp_path}/run/bhatti.sock"
    assert shown["origins"]["state_dir"] == shown["origins"]["url"] == "BHATTI_STATE_DIR"
    rows = {line.split()[0]: line.split()[1:] for line in nobody("config").out.splitlines()}
    assert rows["defaults.cpus"] == ["2", f"{tmp_path}/bhatti/config.toml"]
    assert rows["defaults.memory_mb"] == ["512", "default"]
    assert rows["qemu.binary"] == ["-", "default"]


def test_it_is_said_what_names_the_daemon(nobody: Bhatti, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "bhatti").mkdir()
    written = tmp_path / "bhatti" / "client.toml"
    written.write_text('url = "http://box:8080"\n')
    assert nobody("config", "--json").json()["origins"]["url"] == "BHATTI_STATE_DIR"
    monkeypatch.delenv("BHATTI_STATE_DIR")
    shown = nobody("config", "--json").json()
    assert (shown["url"], shown["origins"]["url"]) == ("http://box:8080", str(written))
    monkeypatch.setenv("BHATTI_URL", "http://other:1")
    assert nobody("config", "--json").json()["origins"]["url"] == "BHATTI_URL"
    written.unlink()
    monkeypatch.delenv("BHATTI_URL")
    assert nobody("config", "--json").json()["origins"]["url"] == "default"


def test_a_setting_that_makes_no_sense_is_told(nobody: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHATTI_DEFAULTS_CPUS", "none")
    done = nobody("config", "--json")
    assert (done.code, json.loads(done.err)["code"]) == (2, "bad-setting")
