"""Files that are larger than the daemon may become, in and out."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.daemons import Daemon

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PIECE = bytes(range(256)) * 4096
MUCH = 256 << 20

FLAT_KIB = 64 << 10
"""What the daemon may take more for so much than for nothing; expected: some MiB of buffers."""


@pytest.mark.parametrize("announced", [True, False], ids=["with its length", "in chunks"])
async def test_it_goes_in_and_comes_out_in_flat_memory(served: Daemon, tmp_path: Path, announced: bool) -> None:
    assert served.process is not None
    name = f"large-{announced}".lower()
    served.out("create", name)
    target = f"/sandboxes/{name}/files?path={tmp_path}/file"
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MUCH // len(PIECE)):
            sent.update(PIECE)
            yield PIECE

    connector = aiohttp.UnixConnector(served.endpoint.path)
    never = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, base_url="http://b", timeout=never) as http:
        async with http.put(target, data=b"x") as response:
            assert response.status == 200
        before = peak_kib(served.process.pid)
        headers = {"Content-Length": str(MUCH)} if announced else {}
        async with http.put(target, data=pieces(), headers=headers) as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with http.get(target) as response:
            assert (response.status, response.content_length) == (200, MUCH)
            async for piece in response.content.iter_chunked(1 << 20):
                received.update(piece)
    assert received.digest() == sent.digest()
    assert peak_kib(served.process.pid) - before < FLAT_KIB
    served.out("rm", name)
    (tmp_path / "file").unlink()


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])
