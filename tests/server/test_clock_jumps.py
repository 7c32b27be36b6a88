"""The clock on the wall is set while the daemon serves: forward or back, by days or years. Nobody should notice."""

import datetime
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
import msgspec
import pytest
from tests.serving import Served, serving, short_directory

from bhatti.daemon.sleeping import Sleeping
from bhatti.operations import types
from bhatti.store import sandboxes
from bhatti.thermal.policy import Action

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DAY_S = 86_400.0


class WallClock:
    """The clock as the daemon sees it: the real one, and how far it was set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        seconds, moment = time.time, datetime.datetime.now

        def now(zone: datetime.tzinfo | None = None) -> datetime.datetime:
            return moment(zone) + datetime.timedelta(seconds=self.ahead_s)

        present = SimpleNamespace(now=now, fromisoformat=datetime.datetime.fromisoformat)
        monkeypatch.setattr(sandboxes, "datetime", SimpleNamespace(datetime=present, UTC=datetime.UTC))
        monkeypatch.setattr(time, "time", lambda: seconds() + self.ahead_s)
        monkeypatch.setattr(time, "time_ns", lambda: int((seconds() + self.ahead_s) * 1e9))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


@pytest.fixture
async def served(clock: WallClock) -> AsyncIterator[Served]:
    """A daemon with a sandbox that may sleep after an hour, and users who get a call in 100 minutes."""
    with short_directory() as directory:
        limits = ["rates.look_per_minute=0.01", "rates.look_burst=3"]
        async with serving(directory, "thermal.warm_after_s=3600", "thermal.cold_after_s=7200", *limits) as found:
            await found.create("one")
            yield found


async def answered(http: aiohttp.ClientSession, method: str, path: str, **fields: object) -> tuple[int, bytes]:
    async with http.request(method, path, json=fields or None) as response:
        return response.status, await response.read()


async def made_once(served: Served) -> str:
    """Ask for the same sandbox once more; return its id."""
    async with served.http.post("/sandboxes", json={"name": "kept"}, headers={"Idempotency-Key": "k1"}) as response:
        assert response.status in (200, 201)
        return str((await response.json())["id"])


async def echoed(terminal: aiohttp.ClientWebSocketResponse, word: bytes) -> None:
    await terminal.send_bytes(word + b"\r")
    heard = b""
    while word not in heard:
        heard += await terminal.receive_bytes(timeout=60)


def sleeping(served: Served) -> Sleeping:
    assert served.service._sleeping is not None
    return served.service._sleeping


@pytest.mark.parametrize("days", [0.2, 5, 4000, -0.2, -5, -4000])
async def test_a_clock_that_is_set_changes_nothing_for_those_who_are_served(
    served: Served, clock: WallClock, days: float
) -> None:
    key = await served.user("ann")
    first = await made_once(served)
    async with (
        served.caller(key) as ann,
        served.http.ws_connect("/sandboxes/one/ws?cmd=cat") as terminal,
        served.http.get("/events?follow=true&since=0") as news,
    ):
        await terminal.receive_str(timeout=60)
        await echoed(terminal, b"before")
        for _ in range(3):
            assert (await answered(ann, "GET", "/me"))[0] == 200
        assert (await answered(ann, "GET", "/me"))[0] == 429

        clock.ahead_s = days * DAY_S

        await echoed(terminal, b"after")
        assert (await answered(ann, "GET", "/me"))[0] == 429  # no time has passed
        assert (await answered(served.http, "POST", "/sandboxes/one/exec", cmd=["true"]))[0] == 200
        assert await made_once(served) == first
        for subject in sleeping(served).running():
            assert (await sleeping(served).manager.consider(subject)).action is Action.KEEP
        made = await served.create("two")
        while True:
            event = msgspec.json.decode(await news.content.readline()).get("event", {})
            if (event.get("sandbox"), event.get("kind")) == ("two", "created"):
                break
    assert served.engine.pauses == served.engine.stops == 0
    assert made.created_at is not None
    assert abs((made.created_at - datetime.datetime.now(datetime.UTC)).total_seconds() - days * DAY_S) < DAY_S / 10
    fresh = msgspec.json.decode((await answered(served.http, "POST", "/users/ann/rotate"))[1], type=types.UserKey)
    async with served.caller(key) as old, served.caller(fresh.api_key) as new:
        assert (await answered(old, "GET", "/me"))[0] == 401
        assert (await answered(new, "GET", "/me"))[0] in (200, 429)

    clock.ahead_s = 0.0  # and it is put right again

    kinds = [event["sandbox"] for event in msgspec.json.decode((await answered(served.http, "GET", "/events"))[1])]
    assert kinds.index("one") < kinds.index("kept") < kinds.index("two")
    for name in ("one", "kept", "two"):
        assert (await answered(served.http, "DELETE", f"/sandboxes/{name}"))[0] == 200
