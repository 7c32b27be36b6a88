from pathlib import Path

import anyio
import pytest
from tests.agent.agents import LocalAgent

from bhatti.engines.docker.readiness import Waiting
from bhatti.errors import GuestTimeout
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport

pytestmark = pytest.mark.anyio


def link_to(folder: Path) -> GuestLink:
    return GuestLink(UnixTransport(folder / "control.sock", folder / "forward.sock"))


async def test_it_is_over_when_the_time_is_and_says_why(tmp_path: Path) -> None:
    waiting = Waiting(link_to(tmp_path), 0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run)
        await waiting.until(anyio.Event())
    assert isinstance(waiting.failure, GuestTimeout)


async def test_it_is_left_when_the_container_has_ended(tmp_path: Path) -> None:
    waiting, ended = Waiting(link_to(tmp_path), 1000), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run)
        ended.set()
        with anyio.fail_after(5):
            await waiting.until(ended)
        assert waiting.failure is None
        tasks.cancel_scope.cancel()


async def test_it_is_over_when_the_agent_answers(tmp_path: Path) -> None:
    agent = await anyio.to_thread.run_sync(LocalAgent, tmp_path)
    try:
        link = GuestLink(UnixTransport(Path(agent.control), Path(agent.forward)))
        waiting = Waiting(link, 5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.run)
            await waiting.until(anyio.Event())
        assert waiting.failure is None
        await link.aclose()
    finally:
        await anyio.to_thread.run_sync(agent.close)
