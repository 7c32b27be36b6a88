"""The daemon as a process: what it costs, what it survives, how it stops."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import anyio
import pytest
from tests.daemons import Daemon, daemon

from bhatti.operations import table, types

pytestmark = pytest.mark.anyio


def session(connector: aiohttp.UnixConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=connector, base_url="http://bhatti")


def pid_of(served: Daemon) -> int:
    assert served.process is not None
    return served.process.pid


def rss_mib(served: Daemon) -> float:
    status = Path(f"/proc/{pid_of(served)}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def descriptors(served: Daemon) -> int:
    return len(list(Path(f"/proc/{pid_of(served)}/fd").iterdir()))


def test_idle_it_takes_no_more_than_80_mib(served: Daemon) -> None:
    assert rss_mib(served) <= 80


async def test_fifty_mixed_operations_on_five_sandboxes_all_end(served: Daemon) -> None:
    """Every caller gets a result or a clear error; in the end nothing is left but what the list says."""
    names = [f"mixed-{number}" for number in range(5)]
    chance = random.Random(7)
    outcomes: Counter[str] = Counter()
    connector = aiohttp.UnixConnector(served.endpoint.path, limit=0)

    async def one(http: aiohttp.ClientSession) -> None:
        name = chance.choice(names)
        method, path, body = chance.choice(
            [
                ("POST", "/sandboxes", {"name": name}),
                ("DELETE", f"/sandboxes/{name}", None),
                ("POST", f"/sandboxes/{name}/exec", {"cmd": ["true"]}),
                ("POST", f"/sandboxes/{name}/stop", None),
                ("POST", f"/sandboxes/{name}/start", None),
                ("POST", f"/sandboxes/{name}/pause", None),
                ("POST", f"/sandboxes/{name}/fork", {}),
                ("GET", f"/sandboxes/{name}", None),
                ("GET", "/sandboxes", None),
            ]
        )
        async with http.request(method, path, json=body) as response:
            answer = await response.json()
            outcomes[f"{method} {answer.get('code', response.status) if isinstance(answer, dict) else 200}"] += 1
            assert response.status < 500 or answer["code"] in ("connection-lost", "guest-unreachable"), answer

    async with (
        aiohttp.ClientSession(connector=connector, base_url="http://b") as http,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(50):
            tasks.start_soon(one, http)
    assert outcomes.total() == 50
    with served.client() as client:
        left = client.call(table.SANDBOX_LIST)
    assert {sandbox.status for sandbox in left} <= {"running", "stopped"}
    assert served.machines() == sorted(sandbox.id for sandbox in left)
    for sandbox in left:
        served.out("rm", sandbox.id)


async def test_two_hundred_callers_at_once_are_all_answered_and_nothing_stays_open(served: Daemon) -> None:
    served.out("create", "busy")
    before = descriptors(served)
    connector = aiohttp.UnixConnector(served.endpoint.path, limit=0)
    outputs: list[str] = []

    async def one(http: aiohttp.ClientSession, number: int) -> None:
        async with http.post("/sandboxes/busy/exec", json={"cmd": ["echo", str(number)]}) as response:
            outputs.append((await response.json()).get("stdout", ""))

    async with (
        aiohttp.ClientSession(connector=connector, base_url="http://b") as http,
        anyio.create_task_group() as tasks,
    ):
        for number in range(200):
            tasks.start_soon(one, http, number)
    assert sorted(outputs) == sorted(f"{number}\n" for number in range(200))
    with anyio.fail_after(60):
        while descriptors(served) > before + 20:  # noqa: ASYNC110 - kept connections to the agent: a bounded few
            await anyio.sleep(0.01)
    served.out("rm", "busy")


async def test_callers_who_say_nothing_and_callers_who_say_half_hold_up_nobody(served: Daemon) -> None:
    with ExitStack() as stack:
        for text in (b"", b"GET /hea", b"PUT /sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf") * 50:
            idle = stack.enter_context(socket.socket(socket.AF_UNIX))
            idle.connect(served.endpoint.path)
            idle.sendall(text)
        with served.client() as client:
            assert client.call(table.HEALTH).status == "ok"


def test_nothing_ever_blocked_the_event_loop_and_nothing_was_a_defect(served: Daemon) -> None:
    """Runs last in this module: the daemon has been raising where its loop would have blocked."""
    assert "BlockingError" not in served.log
    assert "defect" not in served.log
    assert "Traceback" not in served.log


def test_sigterm_leaves_the_machines_and_tells_the_callers() -> None:
    with daemon() as served:
        pid = int(json.loads(served.out("create", "one", "--json"))["engine_meta"]["pid"])
        with served.popen(
            "exec", "one", "--", "sh", "-c", "echo up; sleep 60", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"up\n"
            assert served.stop() == 0
            _, told = caller.communicate(timeout=60)
        assert caller.returncode == 69
        assert b"the daemon is stopping" in told
        os.kill(pid, 0)
        assert not Path(served.endpoint.path).exists()
        served.start()
        assert served.out("exec", "-n", "one", "--", "echo", "back") == b"back\n"


def test_stop_all_ends_the_machines() -> None:
    with daemon(BHATTI_STOP_ALL="true") as served:
        pid = int(json.loads(served.out("create", "one", "--json"))["engine_meta"]["pid"])
        assert served.stop() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        served.start()
        assert served.out("ls", "--json") == b"[]\n"


def test_a_creation_under_way_is_finished_or_undone_when_the_daemon_stops() -> None:
    with daemon(BHATTI_DRAIN_S="0.05") as served:
        with served.popen("create", "one", "--image", "mute", stderr=subprocess.PIPE) as caller:
            while not list((served.directory / "m").glob("*/machine.json")):
                assert caller.poll() is None
            assert served.stop() == 0
            assert caller.wait(60) != 0
        assert served.machines() == []
        served.start()
        assert served.out("ls", "--json") == b"[]\n"


def test_logs_can_be_json() -> None:
    with daemon(BHATTI_LOG_FORMAT="json", BHATTI_LOG_LEVEL="debug") as served:
        served.out("create", "one", "--env", "SECRET=hunter2")
        served.out("exec", "-n", "one", "--env", "SECRET=hunter3", "--", "true")
        events = [json.loads(line) for line in served.log.splitlines()]
    assert {"at", "level", "logger", "message"} <= set(events[0])
    assert any(event.get("sandbox") == "one" for event in events)
    assert any(event["message"] == "POST /sandboxes" and event["request_id"].startswith("req_") for event in events)
    assert "hunter" not in served_text(events)


def served_text(events: list[dict[str, object]]) -> str:
    return json.dumps(events)


def test_what_is_stored_of_a_destroyed_sandbox_holds_no_secret() -> None:
    with daemon() as served:
        made = json.loads(served.out("create", "one", "--env", "SECRET=hunter2", "--json"))
        served.out("rm", "one")
        served.stop()
        stored = (served.directory / "state.db").read_bytes()
        assert made["id"].encode() in stored
        assert b"hunter2" not in stored
        served.start()


async def test_a_signal_in_the_middle_of_a_download_ends_it_within_the_grace() -> None:
    with daemon(BHATTI_DRAIN_S="0.2") as served:
        served.out("create", "one")
        path = served.directory / "big"
        with path.open("wb") as file:
            file.truncate(1 << 30)
        connector = aiohttp.UnixConnector(served.endpoint.path)
        target = f"/sandboxes/one/files?path={path}"
        async with session(connector) as http, http.get(target) as response:
            await response.content.readany()
            stopped = asyncio.get_running_loop().run_in_executor(None, served.stop, signal.SIGTERM)
            with anyio.fail_after(60):
                assert await stopped == 0
        path.unlink()
        served.start()


def test_the_api_answers_what_its_types_say(served: Daemon) -> None:
    with served.client() as client:
        made = client.call(table.SANDBOX_CREATE, types.SandboxCreate())
        assert client.call(table.SANDBOX_GET, id=made.id).id == made.id
        assert client.call(table.SESSION_LIST, id=made.id) == []
        assert client.call(table.SANDBOX_DESTROY, id=made.id).status == "destroyed"
