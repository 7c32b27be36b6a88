from pathlib import Path

import msgspec
import pytest

from bhatti.engines.qemu import accelerator
from bhatti.engines.qemu.accelerator import Verdict
from bhatti.errors import InvalidRequest, MissingDependency

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def kvm_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KVM device that opens; whether it works is what the probe finds out."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM_DEVICE", device)
    return device


def test_the_tiny_guest_runs_under_emulation(qemu: str) -> None:
    verdict = accelerator.probe(qemu, accelerator="tcg")
    assert verdict.accelerator == "tcg"
    assert "a tiny guest ran with TCG" in verdict.reason
    assert 0 < verdict.probe_ms < 8000


def test_a_guest_that_does_not_finish_in_time_is_a_verdict_against(qemu: str) -> None:
    verdict = accelerator.probe(qemu, accelerator="kvm", deadline_s=0.01)
    assert verdict.accelerator == "tcg"
    assert "not finished within 0.01 s" in verdict.reason


@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="needs a /dev/kvm, working or not")
def test_the_verdict_on_this_hosts_kvm_gives_its_reason(qemu: str) -> None:
    verdict = accelerator.probe(qemu, deadline_s=3)
    assert ("ran with KVM" in verdict.reason) == (verdict.accelerator == "kvm")
    assert ("failed with KVM: " in verdict.reason) == (verdict.accelerator == "tcg")


def test_without_the_device_nothing_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
    verdict = accelerator.decide("/nonexistent/qemu", "7.2.22", tmp_path)
    assert (verdict.accelerator, verdict.reason) == ("tcg", f"there is no {tmp_path}/kvm")


def test_a_verdict_is_remembered_for_this_boot_and_this_qemu(tmp_path: Path, kvm_device: Path) -> None:
    remembered = Verdict(accelerator="kvm", reason="earlier", boot_id=BOOT_ID, qemu_version="7.2.22")
    (tmp_path / accelerator.CACHE_FILE).write_bytes(msgspec.json.encode(remembered))
    assert accelerator.decide("/nonexistent/qemu", "7.2.22", tmp_path) == remembered


@pytest.mark.parametrize(
    "stale",
    [
        Verdict(accelerator="kvm", reason="earlier", boot_id="another", qemu_version="7.2.22"),
        Verdict(accelerator="kvm", reason="earlier", boot_id=BOOT_ID, qemu_version="7.1.0"),
        "no verdict at all",
    ],
)
def test_a_verdict_of_another_boot_or_another_qemu_or_a_spoilt_one_is_not_believed(
    tmp_path: Path, kvm_device: Path, stale: object
) -> None:
    (tmp_path / accelerator.CACHE_FILE).write_bytes(msgspec.json.encode(stale))
    verdict = accelerator.decide("/bin/false", "7.2.22", tmp_path)
    assert verdict.accelerator == "tcg"
    assert "a tiny guest failed with KVM" in verdict.reason
    written = msgspec.json.decode((tmp_path / accelerator.CACHE_FILE).read_bytes(), type=Verdict)
    assert written == verdict
    assert (written.boot_id, written.qemu_version) == (BOOT_ID, "7.2.22")


def test_settings_decide_without_a_probe(tmp_path: Path, kvm_device: Path) -> None:
    for wanted in ("kvm", "tcg"):
        verdict = accelerator.decide("/nonexistent/qemu", "7.2.22", tmp_path, wanted=wanted)
        assert verdict.accelerator == wanted
        assert "settings" in verdict.reason


def test_kvm_cannot_be_forced_without_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
    with pytest.raises(MissingDependency) as caught:
        accelerator.decide("/nonexistent/qemu", "7.2.22", tmp_path, wanted="kvm")
    assert caught.value.code == "kvm-missing"


def test_an_unknown_accelerator_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        accelerator.decide("/nonexistent/qemu", "7.2.22", tmp_path, wanted="xen")
    assert caught.value.hint == "use auto, kvm or tcg"


def test_the_version_of_qemu_is_read(qemu: str) -> None:
    assert accelerator.qemu_version(qemu).count(".") == 2


@pytest.mark.parametrize("binary", ["/nonexistent/qemu", "/bin/false", "/bin/echo"])
def test_no_qemu_is_a_missing_dependency(binary: str) -> None:
    with pytest.raises(MissingDependency) as caught:
        accelerator.qemu_version(binary)
    assert caught.value.code == "qemu-missing"
