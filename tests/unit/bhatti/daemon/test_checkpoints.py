"""Checkpoints with a real store and real agents."""

import asyncio

import pytest
from tests.serving import Served

from bhatti.errors import Busy, Conflict, InvalidRequest, LimitExceeded, NotFound
from bhatti.model.sandbox import Status
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def touch(served: Served, name: str) -> list[str]:
    """Make a file in the sandbox; return all there are."""
    link = await served.guest("one")
    return (await link.exec(["sh", "-c", f"touch {name}; ls"])).stdout.decode().split()


async def test_a_sandbox_goes_back_to_its_checkpoint(served: Served) -> None:
    made = await served.create("one")
    await touch(served, "early")
    kept = await served.service.checkpoint("one", "kept")
    assert (kept.name, kept.usable) == ("kept", True)
    assert await touch(served, "late") == ["early", "late"]
    back = await served.service.restore_checkpoint("one", "kept")
    assert (back.id, back.how, back.status) == (made.id, "restored", Status.RUNNING)
    assert await touch(served, "again") == ["again", "early"]
    assert [event.kind for event in await served.journal.events()] == ["created", "checkpoint-made", "put-back"]


async def test_checkpoints_are_listed_and_removed(served: Served) -> None:
    await served.create("one")
    kept = [await served.service.checkpoint("one", name) for name in ("first", "second")]
    assert await served.service.checkpoints("one") == kept
    await served.service.remove_checkpoint("one", "first")
    assert await served.service.checkpoints("one") == kept[1:]
    for use in (served.service.remove_checkpoint, served.service.restore_checkpoint):
        with pytest.raises(NotFound) as caught:
            await use("one", "first")
        assert caught.value.code == "checkpoint-not-found"
        with pytest.raises(InvalidRequest):
            await use("one", "../first")
    with pytest.raises(Conflict) as taken:
        await served.service.checkpoint("one", "second")
    assert taken.value.code == "checkpoint-exists"


async def test_a_sandbox_that_sleeps_is_woken_for_a_checkpoint_and_for_none_of_the_rest(served: Served) -> None:
    await served.create("one")
    await served.service.stop_sandbox("one")
    await served.service.checkpoint("one", "kept")
    assert (await served.service.sandbox("one")).status is Status.RUNNING
    await served.service.stop_sandbox("one")
    await served.service.checkpoints("one")
    assert (await served.service.verify_snapshot("one", types.SnapshotVerify(probe=True))).usable
    await served.service.remove_checkpoint("one", "kept")
    assert (await served.service.sandbox("one")).status is Status.STOPPED


async def test_only_what_is_stopped_has_a_snapshot_to_verify(served: Served) -> None:
    await served.create("one")
    with pytest.raises(Conflict, match="only a stopped one") as caught:
        await served.service.verify_snapshot("one", types.SnapshotVerify())
    assert caught.value.code == "illegal-transition"


async def test_one_order_at_a_time(served: Served) -> None:
    made = await served.create("one")
    await served.service.checkpoint("one", "kept")
    with served.service.claims.hold(made.id, "fork"):
        for call in (
            lambda: served.service.checkpoint("one", "other"),
            lambda: served.service.restore_checkpoint("one", "kept"),
            lambda: served.service.remove_checkpoint("one", "kept"),
            lambda: served.service.verify_snapshot("one", types.SnapshotVerify()),
        ):
            with pytest.raises(Busy, match="fork is under way"):
                await call()
    assert [found.name for found in await served.service.checkpoints("one")] == ["kept"]


async def test_a_user_has_no_more_of_them_than_the_cap_however_many_ask_at_once(served: Served) -> None:
    caller = served.service.accounts.identify(await served.user("anna", max_snapshots=2))
    for name in ("one", "two", "three", "four"):
        await served.service.create(types.SandboxCreate(name=name), lambda stage: None, caller)
    attempts = (served.service.checkpoint(name, "kept") for name in ("one", "two", "three", "four"))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [isinstance(outcome, types.Checkpoint) for outcome in outcomes].count(True) == 2
    assert {outcome.code for outcome in outcomes if isinstance(outcome, LimitExceeded)} == {"snapshot-limit"}
    made = [name for name in ("one", "two", "three", "four") if await served.service.checkpoints(name)]
    await served.service.remove_checkpoint(made[0], "kept")
    assert (await served.service.checkpoint("four", "again")).name == "again"
    await served.create("ours")
    for number in range(3):
        await served.service.checkpoint("ours", f"n{number}")
