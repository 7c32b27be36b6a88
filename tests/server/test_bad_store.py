"""The store does not do as it should while the daemon serves: callers are told, and afterwards nothing is lost."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from tests.serving import Served, serving, short_directory

from bhatti.store import database

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


@asynccontextmanager
async def house() -> AsyncIterator[Served]:
    """A daemon with one sandbox."""
    with short_directory() as directory:
        async with serving(directory) as served:
            await served.create("before")
            yield served


async def told(served: Served, method: str, path: str, **fields: object) -> tuple[int, str]:
    async with served.http.request(method, path, json=fields or None) as response:
        body = await response.json()
        assert "Traceback" not in str(body)
        return response.status, body.get("code", "") if isinstance(body, dict) else ""


async def names(served: Served) -> list[str]:
    async with served.http.get("/sandboxes") as response:
        return sorted(sandbox["name"] for sandbox in await response.json())


async def check_orders_fail(served: Served, status: int, code: str) -> None:
    """What must be written down first is refused, and leaves nothing; the rest goes on."""
    for name in ("one", "two"):
        assert await told(served, "POST", "/sandboxes", name=name) == (status, code)
    assert await told(served, "PATCH", "/sandboxes/before", name="after") == (status, code)
    assert await told(served, "POST", "/secrets", name="TOKEN", value="x") == (status, code)
    assert await told(served, "POST", "/sandboxes/before/exec", cmd=["true"]) == (200, "")
    assert await told(served, "GET", "/health") == (200, "")
    assert await names(served) == ["before"]


async def check_all_is_well(served: Served) -> None:
    """As if nothing had been: what was refused can be done, and the store and the engine agree."""
    assert await told(served, "POST", "/sandboxes", name="one") == (201, "")
    assert await told(served, "PATCH", "/sandboxes/before", name="after") == (200, "")
    assert await names(served) == ["after", "one"]
    assert len(await served.engine.list()) == 2
    assert await told(served, "DELETE", "/sandboxes/after") == (200, "")


async def said(served: Served, pragma: str) -> None:
    """Say something to the daemon's own writer, outside of any transaction."""
    database = served.journal._database
    assert database._write_connection is not None
    await database._run(database._writer, lambda: database._write_connection.execute(pragma).close())  # type: ignore[union-attr]


async def test_a_store_that_another_process_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    async with house() as served:
        with closing(sqlite3.connect(served.settings.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await check_orders_fail(served, 503, "store-unavailable")
            other.execute("ROLLBACK")
        await check_all_is_well(served)


async def test_a_store_that_cannot_be_written() -> None:
    async with house() as served:
        await said(served, "PRAGMA query_only=ON")
        await check_orders_fail(served, 503, "store-unavailable")
        await said(served, "PRAGMA query_only=OFF")
        await check_all_is_well(served)


async def test_a_store_on_a_full_disk() -> None:
    large = {"BALLAST": "x" * 100_000}  # what is small may still find its place in a page that is there
    async with house() as served:
        await said(served, "PRAGMA max_page_count=1")  # never less than there are: the disk has no page left
        for name in ("one", "two"):
            assert await told(served, "POST", "/sandboxes", name=name, env=large) == (507, "out-of-space")
        assert await told(served, "POST", "/sandboxes/before/exec", cmd=["true"]) == (200, "")
        assert await names(served) == ["before"]
        await said(served, "PRAGMA max_page_count=1000000")
        assert await told(served, "POST", "/sandboxes", name="two", env=large) == (201, "")
        assert await told(served, "DELETE", "/sandboxes/two") == (200, "")
        await check_all_is_well(served)
