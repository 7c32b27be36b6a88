"""The agent that the tests of this folder talk to.

By default each test gets a fresh one, a process in test mode. With BHATTI_TEST_AGENT=host[:control[:forward]] (and
BHATTI_TEST_TOKEN) the same tests run against one that is there already, as in a virtual machine.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from tests.agent.agents import Agent, LocalAgent, RemoteAgent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent.client import Connection


@pytest.fixture
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    """An agent that serves."""
    address = os.environ.get("BHATTI_TEST_AGENT")
    made: Agent
    if address:
        host, *ports = address.split(":")
        name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name)[:60]
        made = RemoteAgent(host, os.environ.get("BHATTI_TEST_TOKEN"), name, *map(int, ports))
    else:
        made = LocalAgent(tmp_path)
    yield made
    made.close()


@pytest.fixture
def local(agent: Agent) -> LocalAgent:
    """The agent, for tests that look at its process, its sockets or its host's files, or need it fresh."""
    if not isinstance(agent, LocalAgent):
        pytest.skip("looks at the agent from outside, and this one is in a machine of its own")
    return agent


@pytest.fixture
def connection(agent: Agent) -> Iterator[Connection]:
    """A connection to the agent, kept alive."""
    with agent.connect() as made:
        made.hello()
        yield made
