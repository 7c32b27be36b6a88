import subprocess
import sys
from pathlib import Path

import pytest

from bhatti.engines import registry
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import InvalidRequest


def test_an_engine_is_found_by_name(tmp_path: Path) -> None:
    engine = registry.open_engine("qemu", QemuSettings(state_dir=tmp_path, images_dir=tmp_path))
    assert isinstance(engine, QemuEngine)
    assert engine.name == "qemu"


@pytest.mark.parametrize("function", [registry.open_engine, registry.examine])
def test_an_unknown_name_is_answered_with_the_known_ones(function: object) -> None:
    assert callable(function)
    with pytest.raises(InvalidRequest, match="'xen'") as caught:
        function("xen", None)
    assert caught.value.code == "unknown-engine"
    assert caught.value.hint == f"known engines: {', '.join(sorted(registry.ENGINES))}"


def test_findings_come_without_opening_the_engine(tmp_path: Path) -> None:
    settings = QemuSettings(state_dir=tmp_path, images_dir=tmp_path, binary="/nonexistent/qemu")
    assert next(iter(registry.examine("qemu", settings))).level == "failed"


def test_an_engine_is_not_loaded_before_it_is_asked_for() -> None:
    program = "import sys; import bhatti.engines.registry; print('bhatti.engines.qemu.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
