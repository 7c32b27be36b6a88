from pathlib import Path

import pytest
from tests.firecracker import need_jailer

from bhatti.engines.firecracker import doctor
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.qemu import accelerator
from bhatti.net.abilities import Ability


def findings(directory: Path, binary: str) -> dict[str, tuple[str, str, str | None]]:
    settings = FirecrackerSettings(state_dir=directory, images_dir=directory, binary=binary)
    return {found.name: (found.level, found.detail, found.hint) for found in doctor.examine(settings)}


def test_a_host_is_described_with_versions_and_reasons(tmp_path: Path, firecracker: str) -> None:
    found = findings(tmp_path, firecracker)
    assert found["firecracker"][0] == "ok"
    assert firecracker in found["firecracker"][1]
    assert found["kvm"][0] in ("ok", "failed")
    assert set(found) == {"firecracker", "jailer", "kvm", "network"}


def test_a_missing_program_is_a_failure_with_what_to_do(tmp_path: Path) -> None:
    found = findings(tmp_path, "/nonexistent/firecracker")
    assert found["firecracker"][0] == "failed"
    assert found["firecracker"][2]
    assert "kvm" not in found


def test_one_with_a_known_trouble_is_a_warning_that_names_it(tmp_path: Path) -> None:
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\necho Firecracker v1.15.0\n")
    program.chmod(0o755)
    level, detail, hint = findings(tmp_path, str(program))["firecracker"]
    assert (level, "mended in 1.16" in detail) == ("warning", True)
    assert hint


def test_without_kvm_the_other_engine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\necho Firecracker v1.16.1\n")
    program.chmod(0o755)
    level, detail, hint = findings(tmp_path, str(program))["kvm"]
    assert (level, "there is no" in detail) == ("failed", True)
    assert "engine = qemu" in str(hint)


def test_working_kvm_is_good_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM_DEVICE", device)
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\necho Firecracker v1.16.1\nprintf '\\006'\n")
    program.chmod(0o755)
    assert findings(tmp_path, str(program))["kvm"][0] == "ok"


@pytest.mark.parametrize(("able", "level"), [(True, "ok"), (False, "failed")])
def test_there_is_no_network_but_a_bridge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool, level: str
) -> None:
    monkeypatch.setattr(doctor, "bridge_ability", lambda: Ability(able, "root" if able else "not root"))
    assert findings(tmp_path, "/nonexistent/firecracker")["network"][0] == level


@pytest.mark.parametrize(
    ("jailer", "level", "words"),
    [
        ("/nonexistent/jailer", "failed", "there is no jailer /nonexistent/jailer"),
        ("", "warning", "a machine is a process of this user: firecracker.jailer is empty"),
        ("auto", "warning", "a machine is a process of this user: there is no jailer beside "),
    ],
)
def test_whether_machines_are_in_jails_is_said_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jailer: str, level: str, words: str
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\necho Firecracker v1.16.1\n")
    program.chmod(0o755)
    settings = FirecrackerSettings(state_dir=tmp_path, images_dir=tmp_path, binary=str(program), jailer=jailer)
    (found,) = (finding for finding in doctor.examine(settings) if finding.name == "jailer")
    assert found.level == level
    assert words in found.detail
    assert "firecracker.jailer" in str(found.hint)


def test_the_jailer_beside_the_real_one_is_good_news(tmp_path: Path, firecracker: str) -> None:
    jailer = need_jailer(firecracker)
    assert findings(tmp_path, firecracker)["jailer"] == ("ok", f"{jailer}: each machine is a user of its own", None)
