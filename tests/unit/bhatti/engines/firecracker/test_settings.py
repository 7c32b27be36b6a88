from pathlib import Path

from bhatti.engines.firecracker.settings import FirecrackerSettings, Limits


def test_machines_and_volumes_are_where_those_of_qemu_would_be() -> None:
    settings = FirecrackerSettings(state_dir=Path("/srv/b"), images_dir=Path("/srv/i"))
    assert settings.sandboxes_dir == Path("/srv/b/sandboxes")
    assert settings.volumes_dir == Path("/srv/b/volumes")
    assert settings.fork


def test_nothing_is_limited_unless_somebody_says_so() -> None:
    assert FirecrackerSettings(state_dir=Path("/s"), images_dir=Path("/i")).limits == Limits(
        disk_mib_per_s=0, disk_ops_per_s=0, net_mib_per_s=0, net_packets_per_s=0
    )
