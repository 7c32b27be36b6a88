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

SUITE_TIMEOUT_S = 1500
"""Expected: four minutes in an emulated guest."""

OWN_MACHINE = "tests/agent/test_own_machine.py"
"""Goes first: an emulated kernel that has run hundreds of commands takes ten times as long to run out of memory."""


@pytest.mark.anyio
@pytest.mark.vm
@pytest.mark.timeout(SUITE_TIMEOUT_S + 60)
@pytest.mark.usefixtures("pair")  # the engine's bridge is there before what this test leaves is compared
async def test_the_agents_suite_passes_inside_a_machine(engine: Engine, create: Create, tmp_path: Path) -> None:
    if not (engine.capabilities.own_kernel and engine.capabilities.bridge_network):
        pytest.skip("the suite reaches the agent over TCP, which takes a machine with an address")
    box = await create("agent-suite", memory_mib=512)
    assert box.machine.address is not None
    ran = 0
    for number, tests in enumerate(([OWN_MACHINE], ["tests/agent", f"--ignore={OWN_MACHINE}"])):
        report = tmp_path / f"report-{number}.xml"
        with anyio.fail_after(SUITE_TIMEOUT_S):
            done = await anyio.run_process(
                [sys.executable, "-m", "pytest", "-q", "-rNfE", f"--junitxml={report}", "--timeout=600", *tests],
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
        ran += int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    assert ran > 100, f"only {ran} tests ran inside the machine"
