"""What is done with images is tested in test_builds.py; here is that it is the daemon's to do."""

from pathlib import Path

import pytest
from tests.serving import serving

from bhatti.daemon.imaging import Imaging
from bhatti.daemon.service import Service
from bhatti.errors import NotFound, Unavailable

pytestmark = pytest.mark.anyio


async def test_images_are_looked_after_once_the_daemon_serves(directory: Path) -> None:
    assert issubclass(Service, Imaging)
    async with serving(directory, start=False) as served:
        with pytest.raises(Unavailable):
            await served.service.remove_image("none")
        with pytest.raises(Unavailable):
            await served.service.prune_images()
    async with serving(directory) as served:
        assert await served.service.images() == []
        with pytest.raises(NotFound):
            await served.service.remove_image("none")
