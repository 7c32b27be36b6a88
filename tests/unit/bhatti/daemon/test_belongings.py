from pathlib import Path

import pytest
from tests.serving import serving

from bhatti.daemon.belongings import Belongings
from bhatti.daemon.service import Service
from bhatti.errors import Unavailable
from bhatti.model.user import ADMIN

pytestmark = pytest.mark.anyio


async def test_what_users_have_is_handed_over_once_the_daemon_serves(directory: Path) -> None:
    assert issubclass(Service, Belongings)
    async with serving(directory, start=False) as served:
        for use in (lambda: served.service.volumes, lambda: served.service.publications):
            with pytest.raises(Unavailable):
                use()
        for listing in (served.service.secrets.list, served.service.templates.list):
            with pytest.raises(Unavailable):
                await listing(ADMIN)
    async with serving(directory) as served:
        assert await served.service.volumes.list() == []
        assert await served.service.secrets.list(ADMIN) == []
        assert await served.service.templates.list(ADMIN) == []
