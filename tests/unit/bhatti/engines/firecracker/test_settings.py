from pathlib import Path

import pytest

from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits, Limits
from bhatti.errors import InvalidRequest


def test_machines_and_volumes_are_where_those_of_qemu_would_be() -> None:
    settings = FirecrackerSettings(state_dir=Path("/srv/b"), images_dir=Path("/srv/i"))
    assert settings.sandboxes_dir == Path("/srv/b/sandboxes")
    assert settings.volumes_dir == Path("/srv/b/volumes")
    assert settings.fork


def test_nothing_is_limited_unless_somebody_says_so() -> None:
    assert FirecrackerSettings(state_dir=Path("/s"), images_dir=Path("/i")).limits == Limits(
        disk_mib_per_s=0, disk_ops_per_s=0, net_mib_per_s=0, net_packets_per_s=0
    )


@pytest.mark.parametrize("name", ["memory_spare_mib", "tasks"])
def test_limits_that_no_machine_could_start_with_are_refused(name: str) -> None:
    assert getattr(JailLimits(**{name: 0}), name) == 0
    with pytest.raises(InvalidRequest, match=f"firecracker.jail_{name}: with 1 no machine would start") as refusal:
        JailLimits(**{name: 1})
    assert refusal.value.code == "bad-setting"
