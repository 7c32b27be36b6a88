from pathlib import Path

from bhatti.engines.firecracker.settings import FirecrackerSettings


def test_machines_and_volumes_are_where_those_of_qemu_would_be() -> None:
    settings = FirecrackerSettings(state_dir=Path("/srv/b"), images_dir=Path("/srv/i"))
    assert settings.sandboxes_dir == Path("/srv/b/sandboxes")
    assert settings.volumes_dir == Path("/srv/b/volumes")
    assert settings.fork
