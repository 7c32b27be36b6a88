from pathlib import Path

import pytest

from bhatti.engines.firecracker import kvm
from bhatti.engines.qemu import accelerator, probe_guest
from bhatti.errors import MissingDependency


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kvm"
    monkeypatch.setattr(accelerator, "KVM_DEVICE", path)
    return path


def program(directory: Path, script: str) -> str:
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_only_the_end_of_the_tiny_guest_is_another(tmp_path: Path) -> None:
    code = kvm.guest_code()
    assert probe_guest.CODE.count(kvm.SAY_DONE) == 1
    at = probe_guest.CODE.index(kvm.SAY_DONE)
    assert code[:at] == probe_guest.CODE[:at]
    assert code[at + len(kvm.SAY_DONE) :].startswith(probe_guest.CODE[at + len(kvm.SAY_DONE) :])
    target = at + 5 + int.from_bytes(code[at + 1 : at + 5], "little")
    assert code[target:] == kvm.SAY_SO


def test_the_real_one_comes_to_a_verdict_of_the_accelerator_that_qemu_finds(firecracker: str) -> None:
    qemu = "qemu-system-x86_64"
    try:
        accelerator.qemu_version(qemu)
    except MissingDependency as error:
        pytest.skip(error.message)
    verdict = kvm.probe(firecracker, deadline_s=60)
    assert verdict.accelerator == accelerator.probe(qemu, deadline_s=60).accelerator, verdict.reason


def test_without_a_device_it_is_said(device: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=f"there is no {device}") as refusal:
        kvm.need_kvm("firecracker", "1.16.1", tmp_path)
    assert refusal.value.code == "kvm-missing"


def test_a_device_of_others_is_told_from_none(device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device.touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(MissingDependency, match=rf"{device} cannot be opened by this user \(group kvm\)") as refusal:
        kvm.need_kvm("firecracker", "1.16.1", tmp_path)
    assert refusal.value.code == "kvm-missing"


def test_a_kvm_that_opens_and_does_not_work_is_refused_with_the_words(device: Path, tmp_path: Path) -> None:
    device.touch()
    line = "2026-11-22T23:24:14.850439316 [anonymous-instance:fc_vcpu 0] Received KVM_EXIT_INTERNAL_ERROR signal"
    binary = program(tmp_path, f"echo starting; echo '{line}'; exit 148")
    with pytest.raises(MissingDependency, match=r"with KVM: Received KVM_EXIT_INTERNAL_ERROR signal(\n|$)") as refusal:
        kvm.need_kvm(binary, "1.16.1", tmp_path)
    assert refusal.value.code == "kvm-broken"
    assert "engine = qemu" in str(refusal.value.hint)


def test_a_verdict_is_remembered_for_the_same_version(device: Path, tmp_path: Path) -> None:
    device.touch()
    binary = program(tmp_path, f"echo once >> {tmp_path}/ran; printf '\\006'")
    assert kvm.need_kvm(binary, "1.16.1", tmp_path).accelerator == "kvm"
    assert kvm.need_kvm(binary, "1.16.1", tmp_path).accelerator == "kvm"
    assert (tmp_path / "ran").read_text() == "once\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "firecracker ended without a word"),
        ("echo something; exit 1", "something"),
        ("exec sleep 60", "not finished within 0.2 s"),
    ],
)
def test_whatever_is_not_the_end_of_the_guest_is_no_kvm(tmp_path: Path, script: str, words: str) -> None:
    verdict = kvm.probe(program(tmp_path, script), deadline_s=0.2 if "sleep" in script else 60)
    assert verdict.accelerator == "tcg"
    assert words in verdict.reason
