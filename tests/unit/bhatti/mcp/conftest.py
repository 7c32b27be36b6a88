from collections.abc import AsyncIterator, Iterator

import pytest
from mcp import Client
from mcp.types import CallToolResult
from tests.daemons import Daemon, daemon

from bhatti.mcp.tools import Tools


@pytest.fixture(scope="session")
def served() -> Iterator[Daemon]:
    """A daemon in a process of its own."""
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        yield found


@pytest.fixture
def env(served: Daemon) -> dict[str, str]:
    """The environment of a program that has nothing but this daemon."""
    return {**served.env, "BHATTI_URL": str(served.endpoint)}


class Agent:
    """One who calls tools."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def answer(self, tool: str, /, **arguments: object) -> CallToolResult:
        found = await self.client.call_tool(tool, arguments)
        assert isinstance(found, CallToolResult)
        return found

    async def call(self, tool: str, /, **arguments: object) -> dict[str, object]:
        """Call a tool, which must succeed, and return its answer."""
        found = await self.answer(tool, **arguments)
        assert not found.is_error, found.content
        assert isinstance(found.structured_content, dict)
        return found.structured_content

    async def refusal(self, tool: str, /, **arguments: object) -> str:
        """Call a tool, which must fail, and return what it said."""
        found = await self.answer(tool, **arguments)
        assert found.is_error
        (said,) = found.content
        assert said.type == "text"
        return said.text


@pytest.fixture
async def agent(served: Daemon, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    """An agent that talks to a server in this process."""
    monkeypatch.setenv("BHATTI_URL", str(served.endpoint))
    monkeypatch.delenv("BHATTI_API_KEY", raising=False)
    async with Tools() as tools, Client(tools.server()) as client:
        yield Agent(client)
