import inspect

from bhatti.daemon.volumes import Volumes
from bhatti.server.volumes import VolumeBackend


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in VolumeBackend.__abstractmethods__:
        assert len(inspect.getdoc(getattr(VolumeBackend, name)) or "") > 20
        assert inspect.getdoc(getattr(Volumes, name)) == "See `VolumeBackend`."
