import pytest
from tests.serving import Served
from tests.unit.bhatti.daemon.test_metrics import figures  # the reader of the same text

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.watching import Watching
from bhatti.engines.base import SnapshotReport
from bhatti.errors import Conflict, Unavailable
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def kinds(served: Served, **query: object) -> list[tuple[str, str | None]]:
    found = await served.service.watch.events(types.EventsQuery(**query))  # type: ignore[arg-type]
    return [(event.kind, event.sandbox) for event in found]


async def test_every_order_is_an_event_once(served: Served) -> None:
    await served.create("one")
    await served.create("two")
    await served.service.stop_sandbox("one")
    await served.service.start_sandbox("one")
    await served.service.destroy("one")
    assert await kinds(served, sandbox="one") == [
        ("created", "one"),
        ("stopped", "one"),
        ("started", "one"),
        ("destroyed", "one"),
    ]
    assert await kinds(served, sandbox="two") == [("created", "two")]


async def test_what_becomes_of_users_is_an_event_that_holds_no_key(served: Served) -> None:
    key = await served.user("anna")
    rotated = await served.service.accounts.rotate("anna")
    await served.service.accounts.remove("anna", force=False)
    found = await served.service.watch.events(types.EventsQuery())
    assert [event.kind for event in found] == ["user-created", "user-changed", "user-removed"]
    assert not [event for event in found if key in event.detail or rotated.api_key in event.detail]


async def test_what_could_not_be_made_is_an_event(served: Served) -> None:
    with pytest.raises(Exception, match="ended with 3"):
        await served.service.create(types.SandboxCreate(name="bad", image="dies"), lambda stage: None)
    assert await kinds(served) == [("create-undone", "bad")]


async def test_a_sandbox_that_is_called_as_a_dead_one_was_has_its_own_events(served: Served) -> None:
    await served.create("one")
    await served.service.destroy("one")
    assert len(await kinds(served, sandbox="one")) == 2
    await served.create("one")
    assert await kinds(served, sandbox="one") == [("created", "one")]


async def test_the_figures_are_of_this_daemon(served: Served) -> None:
    await served.create("one")
    await served.service.stop_sandbox("one")
    await served.guest("one")  # wakes it
    text = (await served.service.watch.metrics()).decode()
    assert 'bhatti_sandboxes{status="running",temperature="hot"} 1.0' in text
    assert 'bhatti_engine_call_seconds_count{call="create",engine="local",how="booted"} 1.0' in text
    assert 'bhatti_wakes_total{cause=""} 1.0' in text
    assert "process_resident_memory_bytes" in text


async def test_the_size_of_a_snapshot_is_counted_where_the_engine_knows_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await served.engine.status((await served.create()).id)
    watch = served.service.watch
    capable = type("Capable", (), {"memory_snapshot": True})()
    monkeypatch.setattr(type(served.engine), "capabilities", capable)

    async def sized(sandbox_id: str) -> SnapshotReport:
        return SnapshotReport(usable=True, detail="", size_bytes=70_000)

    async def without(sandbox_id: str) -> SnapshotReport:
        raise Conflict("no memory")

    for verify in (sized, without):
        monkeypatch.setattr(served.engine, "verify_snapshot", verify)
        assert await watch.stopped(machine) is machine
    assert figures(watch._metrics)["bhatti_snapshot_bytes_count", "local"] == 1


async def test_it_is_refused_before_and_after(served: Served) -> None:
    early = Watching(served.settings, Catalogue())
    early.answered("health", 200, 0.001)
    await early.happened("image-built", "base")
    for state in ("starting", "stopping"):
        with pytest.raises(Unavailable) as caught:
            await early.metrics()
        assert caught.value.code == state
        early.end()
