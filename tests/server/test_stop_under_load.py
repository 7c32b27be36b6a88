"""SIGTERM while the daemon has its hands full: what is under way is finished, whoever comes now is told."""

import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio import to_thread
from tests.daemons import Daemon, daemon

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

CALLERS = 20

HALF = b"x" * 100_000


class Load:
    """Callers of all kinds, and what became of each."""

    def __init__(self, served: Daemon, directory: Path) -> None:
        self.served = served
        self.go = directory / "go"
        self.arrived = directory / "arrived"
        self.outcomes: Counter[object] = Counter()
        self.uploads = directory / "uploads"
        self.uploads.mkdir()
        self.seated = anyio.Event()
        self.begun = anyio.Event()

    def under_way(self) -> bool:
        """Say whether all commands run, and part of the upload is with the agent."""
        begun = self.arrived.read_bytes().count(b"\n") if self.arrived.exists() else 0
        return begun == CALLERS and bool(list(self.uploads.iterdir()))

    def session(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(self.served.endpoint.path, limit=0)
        return aiohttp.ClientSession(connector=connector, base_url="http://b", timeout=aiohttp.ClientTimeout(60))

    async def command(self, http: aiohttp.ClientSession) -> None:
        """Wait for a command that ends when the daemon has long been told to stop."""
        script = f"echo >> {self.arrived}; until [ -e {self.go} ]; do sleep 0.05; done; echo done"
        async with http.post("/sandboxes/one/exec", json={"cmd": ["sh", "-c", script]}) as response:
            self.outcomes[response.status, (await response.json()).get("stdout")] += 1

    async def upload(self, http: aiohttp.ClientSession) -> None:
        """Send half of a file before and half of it after."""

        async def halves() -> AsyncIterator[bytes]:
            yield HALF
            while not await anyio.Path(self.go).exists():  # noqa: ASYNC110
                await anyio.sleep(0.05)
            yield HALF

        path, size = f"/sandboxes/one/files?path={self.uploads}/file", {"Content-Length": str(2 * len(HALF))}
        async with http.put(path, data=halves(), headers=size) as response:
            self.outcomes["upload", response.status] += 1

    async def terminal(self, http: aiohttp.ClientSession) -> None:
        """Sit at a terminal until it ends."""
        async with http.ws_connect("/sandboxes/one/ws?cmd=cat") as socket:
            await socket.receive()
            self.seated.set()
            async for _ in socket:
                pass
            self.outcomes["terminal", socket.close_code] += 1

    async def begin_to_end(self) -> None:
        """Let what is under way go on, once the daemon stops for certain: it has told the terminal."""
        while not self.outcomes["terminal", 1001]:  # noqa: ASYNC110
            await anyio.sleep(0.05)
        await anyio.Path(self.go).touch()

    async def newcomers(self) -> None:
        """Come again and again, on new connections, until nobody answers any more."""
        while True:
            try:
                async with self.session() as http, http.get("/sandboxes") as response:
                    told = (response.status, (await response.json()), "Retry-After" in response.headers)
            except (aiohttp.ClientError, OSError):
                return
            if told[0] == 503:
                self.outcomes["refused", told[1]["code"], told[2]] += 1
            else:
                assert told[0] == 200, told


async def test_all_are_served_or_told(tmp_path: Path) -> None:
    with daemon(BHATTI_DRAIN_S="60") as served:
        served.out("create", "one")
        load = Load(served, tmp_path)
        async with load.session() as http:
            try:
                with anyio.fail_after(60):
                    async with anyio.create_task_group() as callers:
                        for _ in range(CALLERS):
                            callers.start_soon(load.command, http)
                        callers.start_soon(load.upload, http)
                        callers.start_soon(load.terminal, http)
                        await load.seated.wait()
                        while not load.under_way():  # noqa: ASYNC110 - other processes get there
                            await anyio.sleep(0.05)
                        callers.start_soon(load.newcomers)
                        assert served.process is not None
                        served.process.send_signal(signal.SIGTERM)
                        load.begun.set()
                        callers.start_soon(load.begin_to_end)
            finally:
                load.go.touch()
                status = await to_thread.run_sync(ended, served) if load.begun.is_set() else None
        assert status == 0
        refused = {key for key in load.outcomes if isinstance(key, tuple) and key[0] == "refused"}
        assert refused <= {("refused", "stopping", True)}
        assert load.outcomes[200, "done\n"] == CALLERS
        assert load.outcomes["upload", 200] == 1
        assert (load.uploads / "file").read_bytes() == 2 * HALF
        assert "Traceback" not in served.log
        served.start()
        assert served.out("exec", "-n", "one", "--", "echo", "back") == b"back\n"


def ended(served: Daemon) -> int:
    """Wait for the end of a daemon that has been told; return its exit status."""
    assert served.process is not None
    status = served.process.wait(60)
    served.process = None
    return status
