from pathlib import Path

import pytest

from bhatti.engines.qemu import accelerator, doctor
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.net.abilities import Ability


def findings(settings: QemuSettings) -> dict[str, tuple[str, str, str | None]]:
    return {found.name: (found.level, found.detail, found.hint) for found in doctor.examine(settings)}


def test_a_host_is_described_with_versions_and_reasons(tmp_path: Path, qemu: str) -> None:
    found = findings(QemuSettings(state_dir=tmp_path, images_dir=tmp_path, accelerator="tcg"))
    assert found["qemu"][0] == "ok"
    assert qemu in found["qemu"][1]
    assert found["accelerator"][0] == "warning"
    assert found["accelerator"][1] == "tcg: set in the settings"
    assert set(found) == {"qemu", "accelerator", "network"}


def test_a_missing_qemu_is_a_failure_with_its_package(tmp_path: Path) -> None:
    found = findings(QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/nonexistent/qemu"))
    assert found["qemu"][0] == "failed"
    assert found["qemu"][2] == "apt install qemu-system-x86"
    assert "accelerator" not in found


def test_kvm_forced_without_a_device_is_a_failure(tmp_path: Path, qemu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
    found = findings(QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary=qemu, accelerator="kvm"))
    assert found["accelerator"][0] == "failed"


@pytest.mark.parametrize(
    ("wanted", "able", "level", "words"),
    [
        ("auto", True, "ok", "bridge"),
        ("auto", False, "warning", "user-mode: not root"),
        ("bridge", False, "failed", "not root"),
        ("user", False, "ok", "set in the settings"),
    ],
)
def test_the_network_is_judged_by_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, able: bool, level: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "bridge_ability", lambda: Ability(able, "root" if able else "not root"))
    settings = QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/nonexistent/qemu", network=wanted)  # type: ignore[arg-type]
    found = findings(settings)["network"]
    assert found[0] == level
    assert words in found[1]


def test_working_kvm_is_good_news() -> None:
    verdict = accelerator.Verdict(accelerator="kvm", reason="a tiny guest ran")
    assert doctor._acceleration(verdict).level == "ok"
