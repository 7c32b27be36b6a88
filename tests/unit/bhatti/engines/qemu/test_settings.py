from pathlib import Path

import pytest

from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency


def test_everything_is_below_the_state_directory(tmp_path: Path) -> None:
    settings = QemuSettings(state_dir=tmp_path, images_dir=Path("/images"))
    assert settings.sandboxes_dir == tmp_path / "sandboxes"
    assert settings.volumes_dir == tmp_path / "volumes"


def test_qemu_is_found_by_name_and_by_path(tmp_path: Path, qemu: str) -> None:
    assert QemuSettings(state_dir=tmp_path, images_dir=tmp_path).find_binary() == qemu
    assert QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/bin/true").find_binary() == "/bin/true"


def test_a_missing_qemu_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="/nonexistent/qemu") as caught:
        QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/nonexistent/qemu").find_binary()
    assert (caught.value.code, caught.value.hint) == ("qemu-missing", "apt install qemu-system-x86")
