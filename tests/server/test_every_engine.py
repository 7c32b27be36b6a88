"""Server tests: what a user does with sandboxes over HTTP is the same whichever engine makes them.

The same requests, with a key on TCP, to a daemon with virtual machines, to one with containers and, where it can run,
to one with Firecracker. Each has one sandbox, called `one`, which all tests leave as they found it.
"""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.daemons import Daemon, daemon
from tests.dockerd import PrivateDocker
from tests.firecracker import need_working_firecracker
from tests.guest_server import answering

pytestmark = [pytest.mark.vm, pytest.mark.anyio, pytest.mark.timeout(600)]

PORT, CLOSED_PORT = 9018, 59_997

SERVER = answering(PORT, "X-Asked", "Authorization")

UNTIL_TOLD = "rm -f /tmp/go; echo first; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo err >&2; exit 3"


@dataclass(frozen=True)
class House:
    """A daemon, where it listens on TCP, and the keys of two users; `one` belongs to the first."""

    served: Daemon
    url: str
    anna: str
    bert: str

    def caller(self, key: str = "") -> aiohttp.ClientSession:
        """A client that shows `key`; without one, nothing."""
        return aiohttp.ClientSession(self.url, headers={"Authorization": f"Bearer {key}"} if key else {})


def settings_of(engine: str, images: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    settings = {"BHATTI_IMAGES_DIR": str(images), "BHATTI_LISTEN": "127.0.0.1:0"}
    if engine == "docker":
        docker: PrivateDocker = request.getfixturevalue("docker")
        return settings | {"BHATTI_DOCKER_SOCKET": str(docker.socket)}
    # No golden snapshots: two machines are all that is made.
    if engine == "firecracker":
        return settings | {"BHATTI_FIRECRACKER_BINARY": need_working_firecracker(), "BHATTI_FIRECRACKER_FORK": "false"}
    return settings | {"BHATTI_QEMU_FORK": "false"}


@pytest.fixture(scope="module", params=["qemu", "docker", "firecracker"])
def house(images_dir: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """A daemon with the engine under test and a sandbox that was made by all the words that there are for it."""
    with daemon(engine=request.param, **settings_of(request.param, images_dir, request)) as served:
        line = next(line for line in served.log.splitlines() if "listening on http://" in line)
        anna, bert = (served.out("user", "create", name).decode().strip() for name in ("anna", "bert"))
        found = House(served, line.split("listening on ")[1].split()[0], anna, bert)
        try:
            yield found
        finally:
            served.out("user", "rm", "--force", "anna", "bert")


@pytest.fixture
async def http(house: House) -> AsyncIterator[aiohttp.ClientSession]:
    """The first user, whose sandbox `one` has a template's variables, a secret and a volume."""
    async with house.caller(house.anna) as caller:
        async with caller.get("/sandboxes/one") as response:
            there = response.status == 200
        if not there:
            await call(caller, "POST /secrets", {"name": "TOKEN", "value": "s3cret"}, status=201)
            await call(caller, "POST /volumes", {"name": "data", "size_mb": 16}, status=201)
            template = {
                "name": "small",
                "memory_mb": 256,
                "env": {"GREETING": "hello, 'you' $HOME ü"},
                "secrets": ["TOKEN"],
                "volumes": [{"name": "data", "target": "/data"}],
            }
            await call(caller, "POST /templates", template, status=201)
            await call(caller, "POST /sandboxes", {"name": "one", "template": "small"}, status=201)
        yield caller


async def call(
    caller: aiohttp.ClientSession, what: str, body: object = None, *, status: int = 200, **headers: str
) -> Any:  # noqa: ANN401 - whatever the daemon answers
    """Call an operation, which must answer with that status; return its answer."""
    method, path = what.split()
    async with caller.request(method, path, json=body, headers=headers) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text)


async def refused(caller: aiohttp.ClientSession, what: str, body: object = None, *, status: int) -> str:
    """Call an operation, which must be refused with that status; return the code of the error."""
    return str((await call(caller, what, body, status=status))["code"])


async def said(caller: aiohttp.ClientSession, name: str, *command: str) -> str:
    """Run a command, which must succeed; return what it said."""
    done = await call(caller, f"POST /sandboxes/{name}/exec", {"cmd": command})
    assert done["exit_code"] == 0, done["stderr"]
    return str(done["stdout"])


@asynccontextmanager
async def streamed(caller: aiohttp.ClientSession, *command: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Run a command in `one`, whose events come as they happen; it ends with the block."""
    headers = {"Accept": "application/x-ndjson"}
    async with caller.post("/sandboxes/one/exec", json={"cmd": command}, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in response.content:
                yield json.loads(line)

        yield events()


async def test_a_sandbox_from_its_creation_to_its_end(house: House, http: aiohttp.ClientSession) -> None:
    """Sandbox CRUD lifecycle: created, listed, used, stopped, started with what was on its disk, killed, destroyed."""
    made = await call(http, "POST /sandboxes", {"name": "two", "memory_mb": 256, "cpus": 1}, status=201)
    assert (made["status"], made["engine"], made["memory_mb"]) == ("running", house.served.env["BHATTI_ENGINE"], 256)
    assert sorted(found["name"] for found in await call(http, "GET /sandboxes")) == ["one", "two"]
    assert await refused(http, "POST /sandboxes", {"name": "two"}, status=409) == "name-taken"
    async with house.caller(house.bert) as stranger:
        assert await refused(stranger, f"GET /sandboxes/{made['id']}", status=404) == "sandbox-not-found"
        assert await call(stranger, "GET /sandboxes") == []
    assert await said(http, "two", "sh", "-c", "hostname; echo kept > kept") == "two\n"
    stopped = await call(http, "POST /sandboxes/two/stop")
    assert (stopped["status"], stopped["thermal"], bool(stopped["stopped_at"])) == ("stopped", "cold", True)
    started = await call(http, "POST /sandboxes/two/start")
    assert (started["status"], started["stopped_at"]) == ("running", None)
    assert await said(http, made["id"], "cat", "kept") == "kept\n"
    async with http.get("/events", params={"follow": "true"}) as news:
        os.kill(int(started["engine_meta"]["pid"]), signal.SIGKILL)
        while (told := json.loads(await news.content.readline()))["type"] == "alive":
            pass
        assert (told["event"]["sandbox"], told["event"]["kind"]) == ("two", "failed")  # though nobody has looked
    assert (await call(http, "GET /sandboxes/two"))["status"] == "failed"
    assert await call(http, "DELETE /sandboxes/two") == {"status": "destroyed"}
    assert await refused(http, "GET /sandboxes/two", status=404) == "sandbox-destroyed"
    assert await refused(http, "POST /sandboxes/two/exec", {"cmd": ["true"]}, status=404) == "sandbox-destroyed"
    assert [found["name"] for found in await call(http, "GET /sandboxes")] == ["one"]


async def test_a_command_is_answered_when_it_has_ended_or_as_it_goes(http: aiohttp.ClientSession) -> None:
    """Exec (buffered and streaming)."""
    command = {"cmd": ["sh", "-c", "cat; echo err >&2; exit 42"], "stdin": "typed"}
    done = await call(http, "POST /sandboxes/one/exec", command)
    assert (done["exit_code"], done["stdout"], done["stderr"]) == (42, "typed", "err\n")
    assert await refused(http, "POST /sandboxes/one/exec", {"cmd": ["no-such"]}, status=422) == "command-not-found"
    async with streamed(http, "sh", "-c", UNTIL_TOLD) as events:
        first = await anext(events)
        assert (first["type"], first["data"]) == ("stdout", "first\n")
        await said(http, "one", "touch", "/tmp/go")  # so the first words came while it ran
        rest = [(event["type"], event.get("data"), event.get("exit_code")) async for event in events]
    assert rest == [("stderr", "err\n", None), ("exit", None, 3)]
    await said(http, "one", "rm", "/tmp/go")


@pytest.mark.parametrize("path", ["ws?cmd=sh", "exec/ws"])
async def test_a_socket_is_for_whoever_shows_a_key_in_the_header(
    house: House, http: aiohttp.ClientSession, path: str
) -> None:
    """WebSocket auth (query param, bearer header, rejection): keys in a query are written to logs, so none counts."""
    sign = "&" if "?" in path else "?"
    for key, query in (("", ""), ("bht_wrong", ""), ("", f"{sign}token={house.anna}")):
        async with house.caller(key) as stranger:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await stranger.ws_connect(f"/sandboxes/one/{path}{query}")
            assert caught.value.status == 401
    async with house.caller(house.bert) as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await stranger.ws_connect(f"/sandboxes/one/{path}")
        assert caught.value.status == 404
    async with http.ws_connect(f"/sandboxes/one/{path}") as socket:
        if path == "exec/ws":
            await socket.send_json({"cmd": ["sh", "-c", "echo mar''ker"]})
        else:
            await socket.send_json({"type": "resize", "rows": 40, "cols": 120})
            await socket.send_bytes(b"stty size; echo mar''ker; exit\n")
        seen = b"".join([message.data async for message in socket if message.type is aiohttp.WSMsgType.BINARY])
    assert b"marker" in seen
    assert ("exec" in path) or b"40 120" in seen


async def test_a_port_is_reached_by_its_path(house: House, http: aiohttp.ClientSession) -> None:
    """Proxy routing: to the server inside, with headers both ways, and to nobody else."""
    proxy = "/sandboxes/one/proxy"
    async with streamed(http, "python3", "-c", SERVER) as events:
        assert (await anext(events))["data"] == "listening\n"
        for path, status in (("/found?x=1", 200), ("/missing", 404)):
            async with http.get(f"{proxy}/{PORT}{path}", headers={"X-Asked": "outside"}) as answer:
                assert (answer.status, answer.headers["X-Answered"]) == (status, "inside")
                assert await answer.text() == f"{path} outside None"  # the key goes no further than the daemon
        for key, status in (("", 401), (house.bert, 404)):
            async with house.caller(key) as stranger, stranger.get(f"{proxy}/{PORT}/found") as answer:
                assert answer.status == status
    assert await refused(http, f"GET {proxy}/{CLOSED_PORT}/", status=502) == "bad-gateway"
    assert await refused(http, f"GET {proxy}/70000/", status=400) == "invalid-port"
    assert await refused(http, f"GET /sandboxes/none/proxy/{PORT}/", status=404) == "sandbox-not-found"


async def test_a_template_from_its_creation_to_its_end(http: aiohttp.ClientSession) -> None:
    """Template CRUD; and what a sandbox has of it."""
    (small,) = await call(http, "GET /templates")
    shown = await call(http, "GET /sandboxes/one")
    assert (shown["template_id"], shown["memory_mb"]) == (small["id"], 256)
    assert await said(http, "one", "printenv", "GREETING") == "hello, 'you' $HOME ü\n"
    made = await call(http, "POST /templates", {"name": "other", "cpus": 1}, status=201)
    assert await refused(http, "POST /templates", {"name": "other"}, status=409) == "name-taken"
    assert await call(http, "GET /templates/other") == made
    replaced = await call(http, f"PUT /templates/{made['id']}", {"name": "other", "cpus": 2})
    assert (replaced["id"], replaced["cpus"]) == (made["id"], 2)
    await call(http, "DELETE /templates/other")
    assert await refused(http, "GET /templates/other", status=404) == "template-not-found"
    assert await refused(http, "POST /sandboxes", {"template": "other"}, status=404) == "template-not-found"
    assert await call(http, "GET /templates") == [small]


async def test_a_secret_from_its_creation_to_its_end(http: aiohttp.ClientSession) -> None:
    """Secret CRUD; and that the sandbox that asked for it has its value, which no answer shows."""
    assert (await call(http, "GET /sandboxes/one"))["secrets"] == ["TOKEN"]
    assert await said(http, "one", "printenv", "TOKEN") == "s3cret\n"
    await call(http, "POST /secrets", {"name": "OTHER", "value": "first"}, status=201)
    made = await call(http, "POST /secrets", {"name": "OTHER", "value": "second"}, status=201)
    assert await call(http, "GET /secrets/OTHER") == made
    assert set(made) == {"name", "created_at", "updated_at"}
    assert [secret["name"] for secret in await call(http, "GET /secrets")] == ["OTHER", "TOKEN"]
    assert await refused(http, "POST /secrets", {"name": "OTHER"}, status=400) == "invalid-field"
    await call(http, "DELETE /secrets/OTHER")
    assert await refused(http, "GET /secrets/OTHER", status=404) == "secret-not-found"


async def test_a_volume_from_its_creation_to_its_end(http: aiohttp.ClientSession) -> None:
    """Volume CRUD; and that the sandbox it is attached to writes to it and keeps it from being removed."""
    assert (await call(http, "GET /volumes/data"))["attached"][0]["mount"] == "/data"
    assert await said(http, "one", "sh", "-c", "stat -c %U /data; echo x > /data/x && rm /data/x") == "lohar\n"
    assert await refused(http, "DELETE /volumes/data", status=409) == "volume-in-use"
    await call(http, "POST /volumes", {"name": "other", "size_mb": 16}, status=201)
    assert await refused(http, "POST /volumes", {"name": "a/b"}, status=400) == "bad-name"
    assert [volume["name"] for volume in await call(http, "GET /volumes")] == ["data", "other"]
    taken = {"name": "two", "volumes": [{"name": "data", "target": "/data"}]}
    assert await refused(http, "POST /sandboxes", taken, status=409) == "volume-in-use"
    await call(http, "DELETE /volumes/other")
    assert await refused(http, "GET /volumes/other", status=404) == "volume-not-found"
