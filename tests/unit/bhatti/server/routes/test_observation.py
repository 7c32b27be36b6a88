import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.serving import Served, serving

pytestmark = pytest.mark.anyio

NDJSON = {"Accept": "application/x-ndjson"}
SSE = {"Accept": "text/html;q=0.5, text/event-stream"}


@pytest.fixture
async def served(directory: Path) -> AsyncIterator[Served]:
    """A daemon to whom nothing has happened yet."""
    async with serving(directory) as found:
        yield found


async def test_what_happened_is_a_list(served: Served) -> None:
    made = await served.create("one")
    async with served.http.get("/events", params={"sandbox": "one", "limit": "5"}) as response:
        (event,) = await response.json()
    assert (event["kind"], event["sandbox_id"], event["sandbox"]) == ("created", made.id, "one")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "since=-1", "since=9223372036854775808", "who=me", "follow=2"])
async def test_a_query_that_makes_no_sense_is_refused(served: Served, query: str) -> None:
    async with served.http.get(f"/events?{query}") as response:
        assert response.status == 400
        assert (await response.json())["code"] == "invalid-field"


@pytest.mark.parametrize(("query", "headers"), [("?follow=true", {}), ("?since=0", NDJSON)])
async def test_what_happens_is_a_stream_for_who_asks(served: Served, query: str, headers: dict[str, str]) -> None:
    async with served.http.get(f"/events{query}", headers=headers) as response:
        assert response.content_type == "application/x-ndjson"
        await served.create("one")
        await served.service.destroy("one")
        lines = [json.loads(await response.content.readline()) for _ in range(2)]
    assert [line["event"]["kind"] for line in lines] == ["created", "destroyed"]


async def test_browsers_get_it_as_they_like_it(served: Served) -> None:
    await served.create("one")
    async with served.http.get("/events", headers={**SSE, "Last-Event-ID": "0"}) as response:
        assert response.content_type == "text/event-stream"
        lines = [(await response.content.readline()).decode().rstrip("\n") for _ in range(4)]
    assert lines[:2] == ["id: 1", "event: created"]
    assert json.loads(lines[2].removeprefix("data: "))["sandbox"] == "one"
    assert lines[3] == ""


async def test_an_id_that_is_none_is_refused(served: Served) -> None:
    async with served.http.get("/events", headers={**SSE, "Last-Event-ID": "x"}) as response:
        assert response.status == 400


async def test_a_reader_that_reads_nothing_holds_nobody_up(served: Served) -> None:
    _, writer = await asyncio.open_unix_connection(str(served.settings.socket), limit=1)
    writer.write(b"GET /events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    for number in range(300):
        await served.journal.happened("noise", "x" * 4000)
        if number % 100 == 0:
            async with served.http.get("/health") as response:
                assert response.status == 200
    writer.close()


async def test_streams_end_with_words_when_the_daemon_stops(served: Served) -> None:
    async with served.http.get("/events?follow=true") as response:
        with anyio.fail_after(60):
            served.service.refuse()
            last = json.loads((await response.content.read()).splitlines()[-1])
    assert (last["type"], last["code"]) == ("error", "stopping")


async def test_figures_are_told_as_prometheus_reads_them(served: Served) -> None:
    async with served.http.get("/nowhere"), served.http.get("/version"):
        pass
    async with served.http.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    assert 'bhatti_request_seconds_count{operation="version",status="2xx"} 1.0' in text
    assert 'bhatti_request_seconds_count{operation="",status="4xx"} 1.0' in text


async def test_a_backup_is_a_store(served: Served, tmp_path: Path) -> None:
    await served.create("one")
    async with served.http.get("/backup") as response:
        assert response.content_type == "application/octet-stream"
        (tmp_path / "copy.db").write_bytes(await response.read())
    connection = sqlite3.connect(tmp_path / "copy.db")
    assert connection.execute("SELECT name, status FROM sandboxes").fetchall() == [("one", "running")]
    connection.close()


async def test_the_document_that_is_served_is_valid(served: Served) -> None:
    async with served.http.get("/openapi.json") as response:
        document = await response.json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["version"] == "0.0-test"


async def test_the_page_runs_and_loads_nothing(served: Served) -> None:
    async with served.http.get("/docs") as response:
        assert response.content_type == "text/html"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "sandbox.create" in await response.text()


async def test_a_daemon_that_starts_describes_itself_already(directory: Path) -> None:
    async with serving(directory, start=False) as early:
        for path, status in (("/docs", 200), ("/openapi.json", 200), ("/metrics", 503), ("/backup", 503)):
            async with early.http.get(path) as response:
                assert response.status == status
        async with early.http.get("/events", timeout=aiohttp.ClientTimeout(5)) as response:
            assert response.status == 503
