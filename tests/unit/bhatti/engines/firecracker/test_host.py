import dataclasses
from pathlib import Path

import pytest
from tests.firecracker import need_working_firecracker

from bhatti.engines.firecracker import cgroups, host
from bhatti.engines.firecracker.jail import Jailer
from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits, Limits
from bhatti.engines.qemu import accelerator, network
from bhatti.engines.qemu.snapshot import maker_of
from bhatti.errors import MissingDependency
from bhatti.net.abilities import Ability


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FirecrackerSettings:
    """Settings of a host with a KVM and a Firecracker that say that all is well."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM_DEVICE", device)
    program = tmp_path / "firecracker"
    program.write_text("#!/bin/sh\necho Firecracker v1.16.1\nprintf '\\006'\n")
    program.chmod(0o755)
    return FirecrackerSettings(state_dir=tmp_path / "state", images_dir=tmp_path / "images", binary=str(program))


def test_a_host_is_known_by_its_program_its_kvm_and_its_network(
    settings: FirecrackerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "bridge_ability", lambda: Ability(True, "root"))
    found = host.open_host(settings)
    assert (found.engine, found.binary, found.version) == ("firecracker", settings.binary, "1.16.1")
    assert found.verdict.accelerator == "kvm"
    assert found.networks.new == "bridge"
    assert settings.sandboxes_dir.stat().st_mode & 0o777 == 0o700
    maker = maker_of(found)
    assert (maker.engine, maker.machine, maker.version) == ("firecracker", "pci", "1.16.1")
    limited = host.open_host(dataclasses.replace(settings, limits=Limits(disk_ops_per_s=1)))
    assert limited.devices != found.devices


def test_without_a_bridge_there_is_no_firecracker(
    settings: FirecrackerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "bridge_ability", lambda: Ability(False, "not root"))
    with pytest.raises(MissingDependency, match=r"needs a bridge for its machines: .*not root") as refusal:
        host.open_host(settings)
    assert refusal.value.code == "bridge-impossible"
    assert "engine = qemu" in str(refusal.value.hint)
    assert not settings.sandboxes_dir.exists()


def test_a_jailer_that_is_not_there_is_missed_before_anything_is_made(settings: FirecrackerSettings) -> None:
    with pytest.raises(MissingDependency) as refusal:
        host.open_host(dataclasses.replace(settings, jailer="/nonexistent/jailer"))
    assert refusal.value.code == "jailer-missing"
    assert not settings.sandboxes_dir.exists()


def test_limits_without_a_jail_are_refused_rather_than_forgotten(
    settings: FirecrackerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = JailLimits(cpu_percent=50)
    with pytest.raises(MissingDependency, match="limits are set for the jails of machines, and there are none") as no:
        host.open_host(dataclasses.replace(settings, jailer="", jail_limits=limits))
    assert no.value.code == "jailer-missing"
    monkeypatch.setattr(host, "choose_jailer", lambda *_: Jailer("/j"))
    (tmp_path / "mounts").touch()
    monkeypatch.setattr(cgroups, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(MissingDependency) as no:
        host.open_host(dataclasses.replace(settings, jail_limits=limits))
    assert no.value.code == "cgroups-missing"
    assert not settings.sandboxes_dir.exists()


def test_nothing_is_made_without_the_program(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(MissingDependency):
        host.open_host(FirecrackerSettings(state_dir=state, images_dir=tmp_path, binary="/nonexistent/firecracker"))
    assert not state.exists()


@pytest.mark.vm
def test_the_real_one_is_opened_where_it_works(tmp_path: Path) -> None:
    binary = need_working_firecracker()
    settings = FirecrackerSettings(state_dir=tmp_path, images_dir=tmp_path, binary=binary)
    assert host.open_host(settings).verdict.accelerator == "kvm"
