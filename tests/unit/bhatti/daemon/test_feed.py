"""The feed over a real store: who looks and who watches."""

import anyio
import pytest

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.feed import Feed, wanted_by
from bhatti.errors import Unavailable
from bhatti.operations import types
from bhatti.store.events import ALL
from bhatti.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_the_list_begins_where_it_is_asked_to(journal: Journal) -> None:
    feed = Feed(journal)
    for number in range(5):
        await journal.happened(str(number))
    assert [e.kind for e in await feed.list(types.EventsQuery(limit=2), ALL)] == ["3", "4"]
    assert [e.kind for e in await feed.list(types.EventsQuery(since=1, limit=2), ALL)] == ["1", "2"]


async def test_a_watcher_gets_what_comes_and_not_what_was(journal: Journal) -> None:
    await journal.happened("before")
    news = Feed(journal, alive_s=0.01).follow(None, ALL)
    assert (await anext(news)).type == "alive"
    await journal.happened("after")
    while (said := await anext(news)).type == "alive":
        pass
    assert said.event is not None
    assert said.event.kind == "after"
    await news.aclose()


async def test_a_watcher_can_go_on_from_an_event(journal: Journal) -> None:
    for number in range(3):
        await journal.happened(str(number))
    news = Feed(journal).follow(1, ALL)
    assert [(await anext(news)).event.kind for _ in range(2)] == ["1", "2"]  # type: ignore[union-attr]
    await news.aclose()


async def test_a_slow_watcher_holds_nobody_up_and_is_told_what_it_missed(journal: Journal) -> None:
    news = Feed(journal, max_behind=3).follow(0, ALL)
    await journal.happened("0")
    assert (await anext(news)).event is not None
    for number in range(1, 10):  # nobody reads meanwhile, and nobody waits
        await journal.happened(str(number))
    missed = await anext(news)
    assert (missed.type, missed.until) == ("missed", 7)
    assert [(await anext(news)).event.kind for _ in range(3)] == ["7", "8", "9"]  # type: ignore[union-attr]
    await news.aclose()


async def test_a_watcher_is_told_when_the_daemon_stops(journal: Journal) -> None:
    feed = Feed(journal)
    told: list[str] = []

    async def watch() -> None:
        news = feed.follow(None, ALL)
        with pytest.raises(Unavailable) as caught:
            await anext(news)
        told.append(caught.value.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        feed.close()
    assert told == ["stopping"]


def test_a_name_that_no_sandbox_has_now_may_be_one_of_the_past() -> None:
    assert wanted_by(types.EventsQuery(sandbox="gone"), Catalogue()).sandbox == "gone"
    assert wanted_by(types.EventsQuery(), Catalogue()) == ALL
