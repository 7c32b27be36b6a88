"""The store does not do as it should while the daemon serves: callers are told, and afterwards nothing is lost."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.daemons import daemon
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


def damage(path: Path) -> None:
    """Overwrite all of a store but its first page, as a broken disk would, with nothing left in the log beside it."""
    deadline = time.monotonic() + 60
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        while other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:  # somebody writes or reads just now
            assert time.monotonic() < deadline
        page_bytes = other.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(page_bytes)
        file.write(b"\xa5" * (size - page_bytes))


async def test_a_store_that_is_damaged_under_the_daemon() -> None:
    """Nothing is promised any more that could not be kept; what runs can be used, and does not fall asleep."""
    async with house() as served:
        damage(served.settings.database)
        async with served.http.get("/doctor") as response:
            store = next(check for check in (await response.json())["checks"] if check["name"] == "store")
        assert (store["status"], "damaged" in store["detail"], "backup" in store["hint"]) == ("failed", True, True)
        assert await told(served, "GET", "/backup") == (500, "store-corrupt")  # reads all of it, and finds out
        async with served.http.get("/health") as response:
            assert (response.status, (await response.json())["status"]) == (200, "damaged")
        await check_orders_fail(served, 500, "store-corrupt")
        assert await told(served, "POST", "/sandboxes/before/stop") == (500, "store-corrupt")
        assert await told(served, "DELETE", "/sandboxes/before") == (500, "store-corrupt")
        assert await told(served, "POST", "/sandboxes/before/exec", cmd=["true"]) == (200, "")
        assert served.engine.stops == 0
        assert len(await served.engine.list()) == 1


def test_a_daemon_with_a_damaged_store_says_how_to_go_on() -> None:
    with daemon() as served:
        served.out("create", "before")
        store, copy = served.directory / "state.db", served.directory / "copy"
        served.out("backup", str(copy))
        damage(store)
        assert served.stop() == 0
        with pytest.raises(AssertionError, match="store-corrupt") as caught:
            served.start()
        assert "put a backup in its place (docs/operations.md, Recover)" in str(caught.value)
        assert served.process is not None
        assert served.process.wait(60) == 65
        assert "Traceback" not in served.log
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            (served.directory / name).unlink(missing_ok=True)
        copy.rename(store)
        served.start()
        assert b"before" in served.out("ls")
        assert served.out("exec", "before", "--", "echo", "here") == b"here\n"
