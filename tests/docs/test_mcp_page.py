"""docs/mcp.md: the configuration starts a server, and its table has the tools."""

import json
import re
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from tests.daemons import ROOT, daemon

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "mcp.md").read_text()


async def test_the_configuration_starts_a_server_with_the_tools_of_the_table() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    entry = json.loads(block)["mcpServers"]["bhatti"]
    assert entry["command"] == "bhatti"
    table = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    with daemon() as served:
        parameters = StdioServerParameters(
            command=str(Path(sys.executable).with_name(entry["command"])), args=entry["args"], env=served.env
        )
        async with Client(parameters) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == table
            assert not (await client.call_tool("list_sandboxes", {})).is_error
