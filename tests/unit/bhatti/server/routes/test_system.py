import os

import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_health_says_how_it_is(served: Served) -> None:
    async with served.http.get("/health") as response:
        body = await response.json()
    assert (response.status, body["status"], body["sandboxes"]) == (200, "ok", 1)
    assert body["uptime"] >= 0


async def test_version_says_which_daemon_it_is(served: Served) -> None:
    async with served.http.get("/version") as response:
        body = await response.json()
    assert (body["version"], body["pid"], body["api"]) == ("0.0-test", os.getpid(), "1")
    assert (body["can"]["fork"], body["can"]["bridge_network"]) == (True, False)


async def test_the_doctor_reports(served: Served) -> None:
    async with served.http.get("/doctor") as response:
        assert (await response.json())["checks"]
