"""Who may do what: every operation of the table, as everybody that there is, and all the ways around that we know."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.serving import Served, serving, short_directory

from bhatti.errors import BhattiError
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope, Streams
from bhatti.operations.table import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

AnyOperation = Operation[object, object]

WRONG_KEY = "bht_" + "x" * 43
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}
GIVEN = {"port": "1", "rest": "x", "user": "nobody-of-that-name"}
"""Parameters of paths beside sandboxes. Whatever is not here is called `nothing`, which there is not."""


@asynccontextmanager
async def household() -> AsyncIterator[tuple[Served, str, str]]:
    """A daemon with two users, given as their keys."""
    with short_directory() as directory:
        async with serving(directory) as served:
            yield served, await served.user("anna", max_sandboxes=100), await served.user("bert")


async def sandbox_of(served: Served, key: str, name: str = "hers") -> str:
    """Make a sandbox as a user does, unless it is there; return its id."""
    async with served.caller(key) as http:
        async with http.get(f"/sandboxes/{name}") as response:
            if response.status == 200:
                return str((await response.json())["id"])
        async with http.post("/sandboxes", json={"name": name}) as response:
            assert response.status == 201, await response.text()
            return str((await response.json())["id"])


def filled(path: str, sandbox_id: str) -> str:
    """Return the path of an operation with something in each of its braces."""

    def value(match: re.Match[str]) -> str:
        if path.startswith("/sandboxes/{id}") and match[1] == "id":
            return sandbox_id
        return GIVEN.get(match[1], "nothing")

    return re.sub(r"\{(\w+)(?::[^}]*)?\}", value, path)


def query_of(operation: AnyOperation) -> dict[str, str]:
    """Return what the operation must have behind `?`: paths where there is nothing, nor can be.

    The sandboxes are processes of the host, with the rights of whoever runs the tests.
    """
    if operation.query is None:
        return {}
    return {field.name: "/proc/nothing/here" for field in msgspec.structs.fields(operation.query) if field.required}


class Answer(msgspec.Struct):
    """What came back: the status, and the error if it is one."""

    status: int
    body: dict[str, Any] = {}

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


async def call(http: aiohttp.ClientSession, operation: AnyOperation, sandbox_id: str) -> Answer:
    """Call an operation, and leave as soon as it has answered.

    What takes a JSON body gets one with a field that there is not: whoever is let in is told so, and nothing is made.
    """
    method = "GET" if operation.method == "*" else operation.method
    socket = operation.streams is Streams.SOCKET
    body: dict[str, Any] = {}
    if operation.streams is Streams.UPLOAD:
        body = {"data": b"content"}
    elif operation.request is not None and not socket:
        body = {"json": {"no-such-field": 1}}
    headers = UPGRADE if socket else {}
    path = filled(operation.path, sandbox_id)
    async with http.request(method, path, params=query_of(operation), headers=headers, **body) as response:
        if response.status < 400 or method == "HEAD":
            response.close()
            return Answer(response.status)
        return Answer(response.status, await response.json())


def told(answer: Answer, sandbox_id: str) -> tuple[object, ...]:
    """Return all that an answer says, but for what differs from call to call."""
    body = {name: value for name, value in answer.body.items() if name != "request_id"}
    return answer.status, json.dumps(body, sort_keys=True).replace(sandbox_id, "ID")


def judged(operation: AnyOperation) -> bool:
    return operation.scope is not Scope.PUBLIC


@pytest.mark.parametrize(("key", "code"), [("", "unauthorized"), (WRONG_KEY, "invalid-key"), ("sesame", "invalid-key")])
async def test_without_a_key_that_somebody_has_every_operation_is_refused(key: str, code: str) -> None:
    async with household() as (served, anna, _), served.caller(key) as http:
        sandbox_id = await sandbox_of(served, anna)
        for operation in filter(judged, ALL):
            answer = await call(http, operation, sandbox_id)
            assert answer.status == 401, operation.name
            assert answer.code == ("" if operation.method == "HEAD" else code), operation.name
        assert await sandbox_of(served, anna) == sandbox_id, "it is still there"


async def test_what_is_public_needs_no_key_and_tells_no_secrets() -> None:
    async with household() as (served, anna, _), served.caller() as http:
        await sandbox_of(served, anna)
        public = [operation for operation in ALL if not judged(operation)]
        assert "health" in [operation.name for operation in public]
        for operation in public:
            assert (await call(http, operation, "")).status < 400, operation.name
        async with http.get("/health") as response:
            health = await response.json()
        assert (health["status"], health["sandboxes"]) == ("ok", None)
        async with served.http.get("/health") as response:
            assert (await response.json())["sandboxes"] == 1


async def test_another_user_is_told_the_same_as_if_there_were_no_such_sandbox() -> None:
    async with household() as (served, anna, bert), served.caller(bert) as http:
        sandbox_id = await sandbox_of(served, anna)
        absent = "f" * len(sandbox_id)
        for operation in filter(judged, ALL):
            answer = await call(http, operation, sandbox_id)
            assert told(answer, sandbox_id) == told(await call(http, operation, absent), absent), operation.name
            if operation.scope is Scope.ADMIN:
                assert answer.status == 403, operation.name
            elif "{id}" in operation.path and operation.path.startswith("/sandboxes/"):
                assert answer.status == 404, operation.name
                assert answer.code == ("" if operation.method == "HEAD" else "sandbox-not-found"), operation.name
            else:
                assert answer.status not in (401, 403), operation.name
                assert answer.code != "internal", operation.name
        assert await sandbox_of(served, anna) == sandbox_id, "it is still there"


async def test_the_owner_may_do_everything_but_what_is_the_administrator_s() -> None:
    async with household() as (served, anna, _), served.caller(anna) as http:
        for operation in filter(judged, ALL):
            answer = await call(http, operation, await sandbox_of(served, anna))
            assert answer.code not in ("internal", "sandbox-not-found"), operation.name
            assert (answer.status == 403) == (operation.scope is Scope.ADMIN), operation.name
            assert answer.status != 401, operation.name


async def test_the_administrator_may_do_everything_with_what_is_anybody_s() -> None:
    async with household() as (served, anna, _):
        for operation in ALL:
            answer = await call(served.http, operation, await sandbox_of(served, anna))
            assert answer.code not in ("internal", "sandbox-not-found"), operation.name
            assert answer.status not in (401, 403), operation.name


# --- paths


async def raw(served: Served, request: str) -> tuple[int, bytes]:
    """Send a request as it is written, and return the status and the whole answer."""
    host, port = served.runner.addresses[-1][:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request.encode("latin-1"))
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    "target",
    [
        "/health/../sandboxes",
        "/health/../../sandboxes",
        "/./sandboxes",
        "//sandboxes",
        "///sandboxes",
        "/sandboxes/",
        "/sandboxes//",
        "/health/..%2fsandboxes",
        "/health%2f..%2fsandboxes",
        "/%2e%2e/sandboxes",
        "/%2e/sandboxes",
        "/health;/../sandboxes",
        "/health%00/../sandboxes",
        "/sandboxes%00",
        "/sandboxes?/health",
        "/sandboxes?x=/../health",
        "/sandboxes/x/../../health",
        "/sandboxes/..%2fhealth",
        "/HEALTH",
        "/health/",
        "/health/x",
        "/Sandboxes",
        "http://bhatti/sandboxes",
        "http://bhatti/health/../sandboxes",
        "http://health/sandboxes",
        "http:///sandboxes",
        "/users",
        "/me",
        "/nowhere",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_way_of_writing_a_path_leads_around_the_key(served_once: Served, target: str, method: str) -> None:
    request = f"{method} {target} HTTP/1.1\r\nHost: /health\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    status, answer = await raw(served_once, request)
    assert status in (400, 401), answer
    assert b"hers" not in answer


async def test_no_way_of_writing_a_path_leads_to_another_user_s_sandbox() -> None:
    async with household() as (served, anna, bert):
        hers, his = await sandbox_of(served, anna), await sandbox_of(served, bert, "his")
        for path in (
            f"/sandboxes/{hers}",
            f"/sandboxes/{hers[:8]}",
            f"/sandboxes/{hers.upper()}",
            "/sandboxes/hers",
            f"/sandboxes/his/../{hers}",
            f"/sandboxes/his%2f..%2f{hers}",
            f"/sandboxes/{his}/../{hers}",
            f"/sandboxes//{hers}",
            f"/sandboxes/./{hers}",
            f"/sandboxes/%2e/{hers}",
            f"/sandboxes/{hers}%00",
            f"/sandboxes/{hers}%20",
            f"/sandboxes/%{ord(hers[0]):02x}{hers[1:]}",
            f"http://bhatti/sandboxes/{hers}",
            f"/sandboxes/{hers}/proxy/1/",
            f"/sandboxes/{his}/proxy/1/../../../{hers}",
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bert}\r\nConnection: close\r\n\r\n"
            status, answer = await raw(served, request)
            # The last one is a path of his own sandbox, in which nothing listens.
            assert status == (502 if "/proxy/1/.." in path else 404), (path, answer)
            assert b'"name"' not in answer, path


# --- headers


@pytest.fixture
async def served_once() -> AsyncIterator[Served]:
    async with household() as (served, _, _):
        yield served


async def test_a_key_is_one_header_of_one_scheme(caplog: pytest.LogCaptureFixture) -> None:
    async with household() as (served, anna, _):
        basic = base64.b64encode(f"anna:{anna}".encode()).decode()
        refused = [
            [f"Authorization: Bearer {anna}", f"Authorization: Bearer {anna}"],
            [f"Authorization: Bearer {anna}", "Authorization: Bearer x"],
            ["Authorization: Bearer x", f"authorization: Bearer {anna}"],
            [f"Authorization: Bearer {anna}, Bearer {anna}"],
            [f"Authorization: Basic {basic}"],
            [f"Authorization: Token {anna}"],
            [f"Authorization: {anna}"],
            ["Authorization: Bearer"],
            ["Authorization: Bearer "],
            ["Authorization:"],
            [f"Authorization: Bearer{anna}"],
            [f"Authorization: Bearer\t{anna}"],
            [f'Authorization: Bearer "{anna}"'],
            [f"Authorization: Bearer {anna} x"],
            [f"Authorization: Bearer {anna.upper()}"],
            [f"Authorization: Bearer {anna[:-1]}"],
            [f"Authorization: Bearer {anna}="],
            [f"Authorization: Bearer {anna}%00"],
            ["Authorization: Bearer bht_\xff" + "x" * 42],
            [f"Authorization : Bearer {anna}"],
            ["Authorization: Bearer", f" {anna}"],
            [f"Proxy-Authorization: Bearer {anna}"],
            [f"X-API-Key: {anna}"],
            [f"X-Authorization: Bearer {anna}"],
            [f"Cookie: Authorization=Bearer {anna}; api_key={anna}; token={anna}"],
            [f"Sec-WebSocket-Protocol: bearer, {anna}"],
            ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Forwarded-User: admin"],
            ["X-Original-URL: /health", "X-Rewrite-URL: /health"],
            ["X-HTTP-Method-Override: HEAD"],
            ["Connection: Authorization, close", "Authorization: Bearer x"],
        ]
        for lines in refused:
            status, answer = await raw(
                served, "\r\n".join(["GET /me HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])
            )
            assert status in (400, 401), (lines, answer)
            assert status == 400 or anna.encode() not in answer
        assert "not HTTP" in caplog.text
        assert anna not in caplog.text
        for line in (f"bearer {anna}", f"BEARER {anna}", f"Bearer   {anna}", f"  Bearer {anna}  "):
            request = f"GET /me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nauthorization: {line}\r\n\r\n"
            assert (await raw(served, request))[0] == 200, line


async def test_keys_behind_a_question_mark_are_ignored() -> None:
    async with household() as (served, anna, _), served.caller() as http:
        sandbox_id = await sandbox_of(served, anna)
        for name in ("token", "api_key", "key", "access_token", "authorization", "Authorization", "bearer"):
            for value in (anna, f"Bearer {anna}"):
                async with http.get("/sandboxes", params={name: value}) as response:
                    assert response.status == 401
                    assert anna not in await response.text()
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await http.ws_connect(f"/sandboxes/{sandbox_id}/ws", params={name: value})
                assert refused.value.status == 401


async def test_a_request_hidden_in_the_body_of_another_is_not_taken() -> None:
    async with household() as (served, anna, _):
        hidden = f"GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {anna}\r\n\r\n"
        request = (
            f"POST /me HTTP/1.1\r\nHost: x\r\nContent-Length: {len(hidden) + 5}\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        )
        status, answer = await raw(served, request)
        assert status == 400
        assert b"anna" not in answer


async def test_a_refusal_says_how_it_is_done() -> None:
    async with household() as (served, _, _), served.caller() as http, http.get("/sandboxes") as response:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        body = await response.json()
        assert "Authorization: Bearer" in body["hint"]


# --- owners


async def test_each_sees_their_own_and_the_administrator_everything() -> None:
    async with household() as (served, anna, bert):
        for key in (anna, bert):
            await sandbox_of(served, key, "same-name")
        await served.create("ours")
        seen = {}
        for name, http in (("anna", served.caller(anna)), ("bert", served.caller(bert))):
            async with http, http.get("/sandboxes") as response:
                seen[name] = await response.json()
            async with served.http.get(f"/users/{name}") as response:
                assert [found["created_by"] for found in seen[name]] == [(await response.json())["id"]]
        assert seen["anna"][0]["id"] != seen["bert"][0]["id"]
        async with served.http.get("/sandboxes") as response:
            assert len(await response.json()) == 3
        async with served.http.get("/sandboxes/same-name") as response:
            assert (await response.json())["code"] == "ambiguous-name"
        async with served.http.get(f"/sandboxes/{seen['bert'][0]['id']}") as response:
            assert response.status == 200


async def test_what_another_user_has_destroyed_was_never_there() -> None:
    async with household() as (served, anna, bert):
        sandbox_id = await sandbox_of(served, anna)
        async with served.caller(anna) as http, http.delete(f"/sandboxes/{sandbox_id}") as response:
            assert response.status == 200
        for key, code in ((anna, "sandbox-destroyed"), (bert, "sandbox-not-found")):
            async with served.caller(key) as http, http.get(f"/sandboxes/{sandbox_id}") as response:
                assert (await response.json())["code"] == code


async def test_what_happens_to_a_sandbox_is_told_to_its_owner_alone() -> None:
    async with household() as (served, anna, bert):
        hers, his = await sandbox_of(served, anna), await sandbox_of(served, bert, "his")
        for key, own in ((anna, hers), (bert, his)):
            async with served.caller(key) as http:
                for query in ({}, {"sandbox": own}, {"since": "0"}):
                    async with http.get("/events", params=query) as response:
                        assert {event["sandbox_id"] for event in await response.json()} == {own}
                for other in {hers, his} - {own}:
                    async with http.get("/events", params={"sandbox": other}) as response:
                        assert await response.json() == []
        async with served.http.get("/events") as response:
            assert {hers, his} <= {event["sandbox_id"] for event in await response.json()}


async def test_a_live_reader_is_told_of_their_own_alone() -> None:
    async with (
        household() as (served, anna, bert),
        served.caller(bert) as http,
        http.get("/events", params={"follow": "true"}) as response,
    ):
        await sandbox_of(served, anna)
        his = await sandbox_of(served, bert, "his")
        while (first := json.loads(await response.content.readline()))["type"] == "alive":
            pass
        assert first["event"]["sandbox_id"] == his


async def test_volumes_are_told_of_to_their_owner_alone() -> None:
    async with household() as (served, anna, bert), served.caller(anna) as hers, served.caller(bert) as his:
        async with hers.post("/volumes", json={"name": "data", "size_mb": 8}) as response:
            assert (response.status, (await response.json())["name"]) == (201, "data")
        for method, path, body in (
            ("GET", "/volumes/data", None),
            ("DELETE", "/volumes/data", None),
            ("POST", "/volumes/data/resize", {"size_mb": 16}),
            ("POST", "/volumes/data/clone", {"name": "copy"}),
        ):
            async with his.request(method, path, json=body) as response:
                assert (response.status, (await response.json())["code"]) == (404, "volume-not-found")
        async with his.get("/volumes") as response:
            assert await response.json() == []
        async with hers.delete("/volumes/data") as response:
            assert response.status == 200


async def test_another_user_s_sandbox_cannot_be_forked() -> None:
    async with household() as (served, anna, bert), served.caller(bert) as http:
        hers = await sandbox_of(served, anna)
        for ref in (hers, "hers", hers[:6]):
            async with http.post("/sandboxes", json={"from": ref}) as response:
                assert (response.status, (await response.json())["code"]) == (404, "sandbox-not-found")


@pytest.mark.parametrize(
    ("caps", "body", "code"),
    [
        ({"max_sandboxes": 2}, {}, "sandbox-limit"),
        ({"max_sandboxes": 100, "max_cpus": 2}, {}, "cpu-limit"),
        ({"max_sandboxes": 100, "max_cpus": 100, "max_memory_mb": 511}, {"memory_mb": 255}, "memory-limit"),
    ],
)
async def test_twenty_at_once_do_not_get_more_than_the_user_may_have(
    caps: dict[str, int], body: dict[str, int], code: str
) -> None:
    with short_directory() as directory:
        async with (
            serving(directory, "rates.create_burst=100") as served,
            served.caller(await served.user("carl", **caps)) as http,
        ):

            async def create() -> Answer:
                async with http.post("/sandboxes", json=body) as response:
                    return Answer(response.status, await response.json())

            answers = await asyncio.gather(*(create() for _ in range(20)))
            made = [answer.body["id"] for answer in answers if answer.status == 201]
            refused = [answer for answer in answers if answer.status == 429]
            assert (len(made), len(refused)) == (2, 18)
            assert {answer.code for answer in refused} == {code}
            assert "bhatti user update carl --max-" in refused[0].body["hint"]
            assert len(served.service.accounts.list()) == 1
            async with http.delete(f"/sandboxes/{made[0]}") as response:
                assert response.status == 200
            assert (await create()).status == 201, "what is gone counts no more"


async def test_a_creation_that_fails_counts_no_more() -> None:
    with short_directory() as directory:
        async with serving(directory) as served, served.caller(await served.user("carl", max_sandboxes=1)) as http:
            for body, status in (({"image": "dies"}, 500), ({"image": "missing"}, 404), ({}, 201), ({}, 429)):
                async with http.post("/sandboxes", json=body) as response:
                    assert response.status == status


# --- rates


async def test_who_calls_too_often_is_told_when_to_come_again() -> None:
    with short_directory() as directory:
        slow = ("rates.look_per_minute=6", "rates.look_burst=3")
        async with serving(directory, *slow) as served:
            anna, bert = await served.user("anna"), await served.user("bert")
            async with served.caller(anna) as http:
                for _ in range(3):
                    async with http.get("/me") as response:
                        assert response.status == 200
                async with http.get("/nowhere") as response:
                    assert response.status == 429
                    assert (await response.json())["code"] == "rate-limited"
                    assert 1 <= int(response.headers["Retry-After"]) <= 10
            async with served.caller(bert) as http, http.get("/me") as response:
                assert response.status == 200, "each has their own"
            for _ in range(10):
                async with served.http.get("/me") as response:
                    assert response.status == 200, "the administrator has no bound"


# --- keys


async def test_a_new_key_cuts_the_old_one_at_once() -> None:
    async with household() as (served, anna, bert):
        sandbox_id = await sandbox_of(served, anna)
        his = await sandbox_of(served, bert, "his")
        async with served.caller(anna) as http, served.caller(bert) as other:
            terminal = await http.ws_connect(f"/sandboxes/{sandbox_id}/ws")
            untouched = await other.ws_connect(f"/sandboxes/{his}/ws")
            assert (await terminal.receive()).type is aiohttp.WSMsgType.TEXT
            running = asyncio.ensure_future(http.post(f"/sandboxes/{sandbox_id}/exec", json={"cmd": ["sleep", "60"]}))  # noqa: TID251
            async with http.get("/me") as response:  # leaves a connection that is kept open
                assert response.status == 200
            async with served.http.post("/users/anna/rotate") as response:
                assert response.headers["Cache-Control"] == "no-store"
                fresh = (await response.json())["api_key"]
            async with http.get("/me") as response:
                assert (response.status, (await response.json())["code"]) == (401, "invalid-key")
            ended = [message.type async for message in terminal if message.type is not aiohttp.WSMsgType.BINARY]
            assert terminal.closed, ended
            with pytest.raises(aiohttp.ClientError):
                await running
            assert not untouched.closed
            await untouched.close()
        assert fresh != anna
        assert await sandbox_of(served, fresh) == sandbox_id


async def test_a_user_with_sandboxes_is_kept_unless_forced_and_then_nothing_is_left() -> None:
    async with household() as (served, anna, bert):
        await sandbox_of(served, anna)
        his = await sandbox_of(served, bert, "his")
        async with served.http.delete("/users/anna") as response:
            assert (response.status, (await response.json())["code"]) == (409, "user-has-sandboxes")
        assert await sandbox_of(served, anna)
        async with served.http.delete("/users/anna?force=true") as response:
            assert response.status == 200
        async with served.caller(anna) as http, http.get("/me") as response:
            assert response.status == 401
        assert [machine.id for machine in await served.engine.list()] == [his]
        async with served.http.get("/users") as response:
            assert [user["name"] for user in await response.json()] == ["bert"]


async def test_users_and_keys_outlive_the_daemon() -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            key = await served.user("anna", max_sandboxes=7)
        async with serving(directory) as served, served.caller(key) as http, http.get("/me") as response:
            me = await response.json()
            assert (me["name"], me["admin"], me["user"]["max_sandboxes"]) == ("anna", False, 7)


async def test_a_key_is_nowhere_but_in_the_answer_that_made_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"), short_directory() as directory:
        async with serving(directory) as served:
            key = await served.user("anna")
            said = []
            sandbox_id = await sandbox_of(served, key)
            async with served.caller(key) as http:
                for path in (
                    "/me",
                    "/nowhere",
                    f"/sandboxes/{sandbox_id}",
                    "/sandboxes/none",
                    "/users",
                    f"/x?key={key}",
                ):
                    async with http.get(path) as response:
                        said.append(await response.text())
                async with http.post("/sandboxes", json={"name": "hers"}) as response:
                    said.append(await response.text())
                async with http.get(f"/sandboxes/{sandbox_id}/proxy/1/") as response:
                    said.append(await response.text())
            for path in ("/users/anna", "/users", f"/sandboxes/{sandbox_id}"):
                async with served.http.get(path) as response:
                    said.append(await response.text())
            said += [event.detail for event in await served.journal.events()]
            said += [repr(record.__dict__) for record in caplog.records]
            said.append(served.engine.console(sandbox_id))
            assert len(said) > 15
            assert not [text for text in said if key in text or key[4:] in text]
            stored = b"".join(path.read_bytes() for path in directory.glob("state.db*"))
            assert b"anna" in stored
            assert key.encode() not in stored


async def test_a_key_is_not_passed_to_what_runs_in_the_sandbox() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with household() as (served, anna, _), await asyncio.start_server(serve, "127.0.0.1", 0) as guest:
        path = f"/sandboxes/{await sandbox_of(served, anna)}/proxy/{guest.sockets[0].getsockname()[1]}/"
        async with served.caller(anna) as http:
            for headers in ({"X-Mine": "1"}, {"X-Mine": "1", **UPGRADE}):
                async with http.get(path, headers=headers) as response:
                    assert response.status == 200
        async with served.http.get(path, headers={"X-Mine": "1", "Authorization": "Bearer of-the-guest"}) as response:
            assert response.status == 200
        assert len(heads) == 3
        assert all(b"X-Mine" in head for head in heads)
        assert [b"authorization" in head.lower() for head in heads] == [False, False, True]


def test_all_errors_of_identity_are_declared() -> None:
    assert {401, 403} <= {cls.http_status for cls in BhattiError.__subclasses__()[0].__subclasses__()}
    assert types.Me in [operation.result for operation in ALL]
