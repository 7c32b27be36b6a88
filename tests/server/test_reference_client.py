"""A client of the reference's API: its paths, its words and its statuses, one after the other, with a key on TCP."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from tests.serving import serving, short_directory

pytestmark = pytest.mark.anyio


class ReferenceClient:
    """Calls as a program does that was written for the reference: it knows paths, JSON names and statuses."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:  # noqa: ANN401
        """Return the JSON that a call is answered with, which must have that status."""
        async with self.http.request(method, path, json=body) as response:
            answer = await response.json() if response.content_type == "application/json" else None
            assert response.status == status, (method, path, body, response.status, answer)
            assert status < 400 or isinstance((answer or {})["error"], str)
            return answer

    async def bytes(self, path: str) -> tuple[bytes, dict[str, str]]:
        """Return a body that is not JSON, and what was said of it."""
        async with self.http.get(path) as response:
            assert response.status == 200
            return await response.read(), dict(response.headers)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Of this module's one daemon."""
    return "asyncio"


@pytest.fixture(scope="module")
async def call() -> AsyncIterator[ReferenceClient]:
    # In one minute it creates more than a person would.
    with short_directory() as directory:
        async with serving(directory, "rates.create_burst=1000", "rates.create_per_minute=10000") as served:
            key = await served.user("somebody", max_sandboxes=3)
            async with served.caller(key) as http:
                yield ReferenceClient(http)


@pytest.fixture
async def sandbox(call: ReferenceClient) -> AsyncIterator[str]:
    """The path of a sandbox as the reference's own command line makes it, defaults and all."""
    made = await call("POST", "/sandboxes", {"name": "", "template_id": "", "cpus": 1, "init": ""}, status=201)
    yield f"/sandboxes/{made['id']}"
    await call("DELETE", f"/sandboxes/{made['id']}")


async def test_health_is_for_everybody_and_the_rest_for_who_has_a_key(call: ReferenceClient) -> None:
    health = await call("GET", "/health")
    assert (health["status"], set(health) >= {"sandboxes", "uptime"}) == ("ok", True)
    for header in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "token"}):
        async with call.http.get("/sandboxes", headers=header) as response:
            assert (response.status, response.content_type) == (401, "application/json")


async def test_templates_in_its_words_make_sandboxes(call: ReferenceClient) -> None:
    words = {"image": "base", "cpus": 1, "memory_mb": 512, "disk_size_mb": 0, "userdata": "", "secrets": []}
    mounts = [{"volume_name": "", "target": "/data", "readonly": False, "auto_create": True}]
    made = await call(
        "POST", "/templates", {"id": "", "name": "agent", "engine": "", **words, "labels": {}, "mounts": mounts},
        status=201,
    )  # fmt: skip
    assert words.items() <= made.items()
    assert made["created_at"]
    assert await call("GET", f"/templates/{made['id']}") == made
    assert made in await call("GET", "/templates")
    of_it = await call("POST", "/sandboxes", {"template_id": made["id"]}, status=201)
    assert of_it["name"].startswith("agent-")
    assert of_it["template_id"] == made["id"]
    assert [volume["name"] for volume in of_it["volumes"]] == [f"bhatti-{of_it['name']}-workspace"]
    assert await call("DELETE", f"/sandboxes/{of_it['id']}") == {"status": "destroyed"}
    await call("DELETE", f"/volumes/bhatti-{of_it['name']}-workspace")
    assert await call("DELETE", f"/templates/{made['id']}") == {"status": "deleted"}
    await call("GET", f"/templates/{made['id']}", status=404)
    await call("POST", "/sandboxes", {"template_id": made["id"]}, status=404)
    await call("POST", "/templates", {"image": "base"}, status=400)


async def test_a_sandbox_lives_and_dies(call: ReferenceClient) -> None:
    made = await call("POST", "/sandboxes", {"name": "dev", "cpus": 1, "memory_mb": 512, "env": {"A": "b"}}, status=201)
    known = {"id", "name", "template_id", "engine_id", "status", "ip", "engine_meta", "created_by", "created_at"}
    assert set(made) >= known
    path = f"/sandboxes/{made['id']}"
    ran = await call("POST", f"{path}/exec", {"cmd": ["sh", "-c", "echo $A; echo no >&2; exit 3"]})
    assert {"exit_code": 3, "stdout": "b\n", "stderr": "no\n"}.items() <= ran.items()
    stopped = await call("POST", f"{path}/stop")
    assert (stopped["status"], bool(stopped["stopped_at"])) == ("stopped", True)
    assert (await call("POST", f"{path}/start", {"force": False}))["status"] == "running"
    edit = {"keep_hot": True, "labels_add": {"team": "a"}, "labels_remove": ["gone"]}
    assert (await call("PATCH", path, edit))["labels"] == {"team": "a"}
    assert [one["id"] for one in await call("GET", "/sandboxes?label=team=a")] == [made["id"]]
    assert (await call("POST", "/sandboxes", {"name": "dev"}, status=409))["error"].startswith("sandbox 'dev'")
    assert await call("DELETE", path) == {"status": "destroyed"}
    await call("GET", path, status=404)
    await call("POST", f"{path}/exec", {"cmd": ["true"]}, status=404)


async def test_what_nobody_may_have_is_refused_with_its_status(call: ReferenceClient) -> None:
    for body in (
        {"name": "two words"}, {"name": "a\nb"}, {"name": "a/b"}, {"name": "-a"}, {"name": ".a"}, {"name": "a" * 64},
        {"cpus": 1000}, {"memory_mb": 1 << 30},
    ):  # fmt: skip
        await call("POST", "/sandboxes", body, status=400)
    made = [await call("POST", "/sandboxes", {"name": name}, status=201) for name in ("a" * 63, "b", "c")]
    await call("POST", "/sandboxes", {}, status=429)
    for one in made:
        await call("DELETE", f"/sandboxes/{one['id']}")
    large = b'{"name": "' + b"x" * (2 << 20) + b'"}'
    async with call.http.post("/sandboxes", data=io.BytesIO(large)) as response:
        assert response.status == 400
    await call("PUT", "/sandboxes", status=405)
    await call("GET", "/nothing", status=404)


async def test_commands_are_streamed_and_left_behind(call: ReferenceClient, sandbox: str, tmp_path: Path) -> None:
    accept = {"Accept": "application/x-ndjson"}
    async with call.http.post(f"{sandbox}/exec", json={"cmd": ["echo", "hi"]}, headers=accept) as response:
        assert response.content_type == "application/x-ndjson"
        events = [json.loads(line) async for line in response.content]
    assert (events[0], events[-1]["type"], events[-1]["exit_code"]) == ({"type": "stdout", "data": "hi\n"}, "exit", 0)
    await call("POST", f"{sandbox}/exec", {"cmd": []}, status=400)
    output = tmp_path / "output"
    left = await call("POST", f"{sandbox}/exec", {"cmd": ["echo", "hi"], "detach": True, "output_file": str(output)})
    assert (left["detached"], left["output_file"], left["pid"] > 0) == (True, str(output), True)
    with anyio.fail_after(60):
        while await anyio.Path(output).read_text() != "hi\n":  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.01)


async def test_files_are_written_read_listed_and_described(call: ReferenceClient, sandbox: str, tmp_path: Path) -> None:
    at = f"{sandbox}/files?path={tmp_path}/file"
    async with call.http.put(f"{at}&mode=0600", data=b"one\ntwo\nthree\n") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    content, headers = await call.bytes(at)
    assert (content, headers["X-File-Size"], headers["Content-Length"]) == (b"one\ntwo\nthree\n", "14", "14")
    content, headers = await call.bytes(f"{at}&offset=2&limit=1")
    assert (content, headers["X-File-Size"], "Content-Length" in headers) == (b"two\n", "14", False)
    async with call.http.head(at) as response:
        described = [response.headers[f"X-File-{what}"] for what in ("Size", "Mode", "IsDir")]
        assert (response.status, described) == (200, ["14", "0600", "false"])
    (entry,) = await call("GET", f"{sandbox}/files?path={tmp_path}&ls=true")
    assert {"name": "file", "size": 14, "mode": "0600", "is_dir": False}.items() <= entry.items()
    await call("GET", f"{sandbox}/files", status=400)
    async with call.http.head(f"{at}-not") as response:
        assert response.status == 404


@pytest.mark.parametrize("query", ["", "?new=true"])
async def test_a_terminal_over_a_websocket(call: ReferenceClient, sandbox: str, query: str) -> None:
    async with call.http.ws_connect(f"{sandbox}/ws{query}") as socket:
        begin = await socket.receive_json(timeout=60)
        assert (begin["type"], bool(begin["session_id"])) == ("session", True)
        await socket.send_str('{"type":"resize","rows":30,"cols":99}')
        await socket.send_bytes(b"stty size; read x\n")
        seen = b""
        while b"30 99" not in seen:
            seen += await socket.receive_bytes(timeout=60)
        (session,) = await call("GET", f"{sandbox}/sessions")
        assert (session["session_id"], session["running"], session["attached"]) == (begin["session_id"], True, True)
        await socket.send_str("\nexit 4\n")
        while (message := await socket.receive(timeout=60)).type is aiohttp.WSMsgType.BINARY:
            pass
        assert json.loads(message.data) == {"type": "exit", "exit_code": 4}
    async with call.http.get(f"{sandbox}/ws?token=whatever", headers={"Authorization": ""}) as response:
        assert response.status == 401


async def test_ports_are_listed_proxied_and_published(call: ReferenceClient, sandbox: str) -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        (found,) = [one for one in await call("GET", f"{sandbox}/ports") if one["container_port"] == port]
        assert found["proxy_url"].startswith(f"{sandbox}/proxy/{port}")
        assert port in [one["container_port"] for one in await call("GET", "/ports")]
        for rest in ("", "/", "/any/page?a=b"):
            assert (await call.bytes(f"{sandbox}/proxy/{port}{rest}"))[0] == b"hello"
        tasks.cancel_scope.cancel()
    await call("GET", f"{sandbox}/proxy/{port}/", status=502)
    await call("GET", f"{sandbox}/proxy/none/", status=400)
    published = await call("POST", f"{sandbox}/publish", {"port": port, "alias": "dev"}, status=201)
    assert published["id"].startswith("pub_")
    assert await call("POST", f"{sandbox}/publish", {"port": port, "alias": "dev"}) == published
    await call("POST", f"{sandbox}/publish", {"port": 1, "alias": "www"}, status=400)
    assert await call("GET", f"{sandbox}/publish") == [published]
    await call("DELETE", f"{sandbox}/publish/{port}", status=204)


async def test_secrets_and_volumes(call: ReferenceClient) -> None:
    for _ in range(2):
        assert (await call("POST", "/secrets", {"name": "KEY", "value": "v"}, status=201))["name"] == "KEY"
    (secret,) = await call("GET", "/secrets")
    assert set(secret) == {"name", "created_at", "updated_at"}
    for body in ({"name": "KEY"}, {"value": "v"}, {"name": "", "value": "v"}, {"name": "KEY", "value": ""}):
        await call("POST", "/secrets", body, status=400)
    assert await call("DELETE", "/secrets/KEY") == {"status": "deleted"}
    await call("DELETE", "/secrets/KEY", status=404)

    for _ in range(2):
        volume = await call("POST", "/volumes", {"name": "data"}, status=201)
    assert (volume["name"], bool(volume["created_at"])) == ("data", True)
    assert await call("GET", "/volumes") == [await call("GET", "/volumes/data")]
    await call("POST", "/volumes", {"name": ""}, status=400)
    wanted = {
        "name": "with",
        "volumes": [{"name": "data", "target": "/data", "readonly": True}],
        "new_volumes": [{"name": "new", "size_mb": 64, "mount": "/new"}],
    }
    made = await call("POST", "/sandboxes", wanted, status=201)
    for name in ("data", "new"):
        await call("DELETE", f"/volumes/{name}", status=409)
    await call("DELETE", f"/sandboxes/{made['id']}")
    for name in ("data", "new"):
        assert await call("DELETE", f"/volumes/{name}") == {"status": "deleted"}
    await call("GET", "/volumes/data", status=404)


async def test_images_and_tasks_are_found_or_not(call: ReferenceClient) -> None:
    assert await call("GET", "/images") == []
    for path in ("/images/none", "/tasks/none"):
        await call("GET", path, status=404)
        await call("DELETE", path, status=404)
