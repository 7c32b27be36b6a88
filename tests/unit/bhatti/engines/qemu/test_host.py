from pathlib import Path

import pytest

from bhatti.engines.qemu import accelerator
from bhatti.engines.qemu.host import open_host
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency


def test_a_host_is_known_by_its_qemu_its_accelerator_and_its_network(tmp_path: Path, qemu: str) -> None:
    settings = QemuSettings(state_dir=tmp_path, images_dir=tmp_path / "images", accelerator="tcg", network="user")
    host = open_host(settings)
    assert host.binary == qemu
    assert host.version == accelerator.qemu_version(qemu)
    assert host.verdict.accelerator == "tcg"
    assert host.networks.new == "user"
    assert host.images.directory == tmp_path / "images"
    assert settings.sandboxes_dir.stat().st_mode & 0o777 == 0o700


def test_nothing_is_made_without_qemu(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency):
        open_host(QemuSettings(state_dir=tmp_path / "state", images_dir=tmp_path, binary="/nonexistent/qemu"))
    assert not (tmp_path / "state").exists()
