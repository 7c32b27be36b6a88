import inspect

import pytest
from tests.engines.fake import FakeEngine

from bhatti.engines.docker.volumes import Volumes
from bhatti.engines.volume_files import VolumeFiles
from bhatti.engines.volumes import VolumeKeeper
from bhatti.errors import InvalidRequest


@pytest.mark.parametrize("keeper", [Volumes, VolumeFiles])
def test_the_interface_has_the_docstrings(keeper: type[VolumeKeeper]) -> None:
    for name in VolumeKeeper.__abstractmethods__:
        assert len(inspect.getdoc(getattr(VolumeKeeper, name)) or "") > 20
        assert (inspect.getdoc(getattr(keeper, name)) or "").startswith("See `VolumeKeeper`")


def test_an_engine_without_volumes_says_so() -> None:
    with pytest.raises(InvalidRequest, match="cannot keep volumes") as caught:
        _ = FakeEngine([]).volumes
    assert caught.value.code == "unsupported"
