"""Creations that are asked for more than once, through HTTP: with a key they are done once."""

import asyncio
from typing import Any

import aiohttp
import pytest
from tests.serving import Served

from bhatti.operations.operation import IDEMPOTENCY_KEY

pytestmark = pytest.mark.anyio


async def ask(
    http: aiohttp.ClientSession, key: str | None, path: str = "/sandboxes", **fields: object
) -> tuple[int, dict[str, Any]]:
    headers = {} if key is None else {IDEMPOTENCY_KEY: key}
    async with http.post(path, json=fields, headers=headers) as response:
        return response.status, await response.json()


async def names(served: Served) -> list[str]:
    async with served.http.get("/sandboxes") as response:
        return [sandbox["name"] for sandbox in await response.json()]


async def test_a_repeated_request_is_answered_with_the_sandbox_that_it_made(served: Served) -> None:
    first = await ask(served.http, "k-1", name="one")
    again = await ask(served.http, "k-1", name="one")
    assert first[0] == again[0] == 201
    assert first[1]["id"] == again[1]["id"]
    assert await names(served) == ["one"]


async def test_without_a_name_and_all_at_once_it_is_one_sandbox_too(served: Served) -> None:
    answers = await asyncio.gather(*(ask(served.http, "k-1") for _ in range(5)))
    assert {status for status, _ in answers} == {201}
    assert len({answer["id"] for _, answer in answers}) == 1
    assert len(await names(served)) == 1


async def test_without_a_key_every_request_makes_one(served: Served) -> None:
    await asyncio.gather(ask(served.http, None), ask(served.http, None))
    assert len(await names(served)) == 2


async def test_a_key_is_for_one_request(served: Served) -> None:
    await ask(served.http, "k-1", name="one")
    status, answer = await ask(served.http, "k-1", name="two")
    assert (status, answer["code"]) == (409, "idempotency-key-reused")
    assert await names(served) == ["one"]


async def test_a_fork_is_made_once_as_well_and_not_taken_for_a_creation(served: Served) -> None:
    await ask(served.http, "k-1", name="one")
    first = await ask(served.http, "k-2", "/sandboxes/one/fork", name="two")
    again = await ask(served.http, "k-2", "/sandboxes/one/fork", name="two")
    assert first[1]["id"] == again[1]["id"]
    status, answer = await ask(served.http, "k-1", "/sandboxes/one/fork", name="three")
    assert (status, answer["code"]) == (409, "idempotency-key-reused")


async def test_what_failed_is_tried_anew_and_what_was_destroyed_is_made_anew(served: Served) -> None:
    for _ in range(2):
        status, answer = await ask(served.http, "k-1", name="one", image="dies")
        assert (status, answer["code"]) == (500, "engine-failure")
    _, first = await ask(served.http, "k-2", name="one")
    async with served.http.delete("/sandboxes/one") as response:
        assert response.status == 200
    _, second = await ask(served.http, "k-2", name="one")
    assert second["id"] != first["id"]


async def test_a_repeated_request_is_answered_when_its_template_and_its_secret_have_gone(served: Served) -> None:
    async with served.http.post("/secrets", json={"name": "token", "value": "s3cr3t"}) as response:
        assert response.status == 201
    async with served.http.post("/templates", json={"name": "agent", "secrets": ["token"]}) as response:
        assert response.status == 201
    _, first = await ask(served.http, "k-1", name="one", template="agent")
    for path in ("/templates/agent", "/secrets/token"):
        async with served.http.delete(path) as response:
            assert response.status == 200
    assert (await ask(served.http, None, name="two", template="agent"))[0] == 404
    status, again = await ask(served.http, "k-1", name="one", template="agent")
    assert (status, again["id"]) == (201, first["id"])


async def test_a_repeated_fork_is_answered_when_its_source_has_gone(served: Served) -> None:
    await ask(served.http, None, name="one")
    fork = {"from": "one", "name": "two"}
    _, first = await ask(served.http, "k-1", **fork)
    async with served.http.delete("/sandboxes/one") as response:
        assert response.status == 200
    status, again = await ask(served.http, "k-1", **fork)
    assert (status, again["id"]) == (201, first["id"])


async def test_keys_of_different_users_have_nothing_to_do_with_each_other(served: Served) -> None:
    async with served.caller(await served.user("anna")) as anna, served.caller(await served.user("bert")) as bert:
        hers = await ask(anna, "k-1", name="one")
        his = await ask(bert, "k-1", name="one")
    assert hers[0] == his[0] == 201
    assert hers[1]["id"] != his[1]["id"]


async def test_the_store_remembers_the_key(served: Served) -> None:
    await ask(served.http, "k-1", name="one")
    (row,) = await served.journal.sandboxes()
    assert row.origin.repeat is not None
    assert row.origin.repeat.key == "k-1"


@pytest.mark.parametrize("key", ["", "two words", "x" * 201, "grün"])
async def test_what_is_no_key_is_refused(served: Served, key: str) -> None:
    status, answer = await ask(served.http, key, name="one")
    assert (status, answer["code"]) == (400, "bad-idempotency-key")
    assert await names(served) == []
