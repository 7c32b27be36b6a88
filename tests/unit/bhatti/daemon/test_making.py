"""Creations with a real store and real agents: what is made, and what is undone, wherever it fails."""

import asyncio

import anyio
import pytest
from tests.serving import Served
from tests.unit.bhatti.daemon.conftest import NOTHING, create, left

from bhatti.daemon.making import CANCELLED
from bhatti.errors import (
    BhattiError,
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    GuestTimeout,
    InvalidRequest,
    NotFound,
    OutOfSpace,
)
from bhatti.operations import types

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        ("missing", NotFound, "image-not-found"),
        ("corrupt", CorruptData, "image-corrupt"),
        ("full", OutOfSpace, "out-of-space"),
        ("dies", EngineFailure, "engine-failure"),
        ("silent", GuestTimeout, "guest-timeout"),
    ],
)
async def test_a_creation_that_fails_leaves_nothing(
    served: Served, image: str, error: type[BhattiError], code: str
) -> None:
    with pytest.raises(error) as caught:
        await create(served, name="one", image=image)
    assert caught.value.code == code
    assert await left(served) == NOTHING
    assert await served.journal.intents() == []
    assert [event.kind for event in await served.journal.events()] == ["create-undone"]
    await create(served, name="one")  # and the name is free


async def test_what_cannot_be_given_is_refused_before_anything_is_written(served: Served) -> None:
    for fields in ({"cpus": 0}, {"cpus": 10_000}, {"memory_mb": 1}, {"name": "-bad"}):
        with pytest.raises(InvalidRequest):
            await create(served, **fields)
    assert await left(served) == NOTHING
    assert await served.journal.events() == []


async def test_two_at_once_for_one_name_make_one(served: Served) -> None:
    results: list[object] = []

    async def attempt() -> None:
        try:
            results.append((await served.create()).name)
        except Conflict as err:
            results.append(err.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(attempt)
    assert sorted(map(str, results)) == ["name-taken", "name-taken", "name-taken", "one"]
    assert (await left(served))[0] == ["one"]


async def test_a_caller_who_leaves_during_a_creation_leaves_nothing(served: Served) -> None:
    began = anyio.Event()
    request = types.SandboxCreate(name="one", image="mute")
    caller = asyncio.get_running_loop().create_task(
        served.service.create(request, lambda stage: began.set() if stage == "agent" else None)
    )
    await began.wait()
    assert (await left(served))[0] == ["one"]
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await left(served) == NOTHING
    assert await served.journal.intents() == []
    assert [(event.kind, event.detail) for event in await served.journal.events()] == [("create-undone", CANCELLED)]


async def test_a_sandbox_cannot_be_destroyed_while_it_is_made(served: Served) -> None:
    began = anyio.Event()

    async def make() -> None:
        with pytest.raises(GuestTimeout):
            await served.service.create(
                types.SandboxCreate(name="one", image="silent"),
                lambda stage: began.set() if stage == "agent" else None,
            )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make)
        await began.wait()
        with pytest.raises(Busy, match="create is under way, cannot destroy it"):
            await served.service.destroy("one")
        with pytest.raises(Conflict) as caught:
            await served.guest("one")
        assert caught.value.code == "not-running"


async def test_a_store_that_fails_at_the_end_of_a_creation_takes_the_machine_along(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(record: object, volumes: object) -> None:
        raise OutOfSpace("the store cannot be written")

    monkeypatch.setattr(served.journal, "finish_create", fail)
    with pytest.raises(OutOfSpace):
        await served.create()
    assert await left(served) == NOTHING


async def test_a_creation_that_cannot_be_undone_stays_in_the_journal(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(sandbox_id: str, reason: str) -> None:
        raise OutOfSpace("the store cannot be written")

    monkeypatch.setattr(served.journal, "undo_create", fail)
    with pytest.raises(NotFound):
        await create(served, name="one", image="missing")
    assert [intent.kind for intent in await served.journal.intents()] == ["create"]
