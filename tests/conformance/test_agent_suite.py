"""The agent's own suite, run against the agent inside a virtual machine: the same tests as on unix sockets."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import anyio
import pytest
from tests.conformance.conftest import Create

from bhatti.engines.base import Engine

ROOT = Path(__file__).parents[2]

SUITE_TIMEOUT_S = 900
"""Expected: four minutes in an emulated guest."""


@pytest.mark.anyio
@pytest.mark.vm
@pytest.mark.timeout(SUITE_TIMEOUT_S + 60)
@pytest.mark.usefixtures("pair")  # the engine's bridge is there before what this test leaves is compared
async def test_the_agents_suite_passes_inside_a_machine(engine: Engine, create: Create, tmp_path: Path) -> None:
    if not (engine.capabilities.own_kernel and engine.capabilities.bridge_network):
        pytest.skip("the suite reaches the agent over TCP, which takes a machine with an address")
    box = await create("agent-suite", memory_mib=512)
    assert box.machine.address is not None
    report = tmp_path / "report.xml"
    with anyio.fail_after(SUITE_TIMEOUT_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "--timeout=120", "tests/agent"],
            cwd=ROOT,
            env=os.environ
            | {
                "BHATTI_TEST_AGENT": box.machine.address,
                "BHATTI_TEST_TOKEN": box.spec.token,
                "BHATTI_TEST_SLOWNESS": "10",
            },
            stderr=subprocess.STDOUT,
            check=False,
        )
    print(done.stdout.decode(errors="replace")[-20_000:])
    assert done.returncode == 0
    suite = ElementTree.parse(report).find("testsuite")
    assert suite is not None
    ran = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    assert ran > 100, f"only {ran} tests ran inside the machine"
