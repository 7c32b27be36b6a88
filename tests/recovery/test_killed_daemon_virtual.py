"""The same with virtual machines: what the daemon left is found, finished or undone, down to the last tap."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.leftovers import Traces, traces
from tests.daemons import Daemon, daemon
from tests.firecracker import need_working_firecracker
from tests.recovery.test_killed_daemon import kill, listed, query, until

from bhatti import paths
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture(params=["qemu", "firecracker"])
def virtual(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon whose machines are virtual, to be killed."""
    settings = {"BHATTI_IMAGES_DIR": paths.images_dir(), "BHATTI_ENGINE": request.param}
    if request.param == "firecracker":
        settings["BHATTI_FIRECRACKER_BINARY"] = need_working_firecracker()
    settings[f"BHATTI_{request.param.upper()}_BOOT_TIMEOUT_S"] = "180"
    ImageStore(Path(paths.images_dir())).build()
    with daemon(**settings) as found:
        yield found


def seen(virtual: Daemon) -> Traces:
    images = Path(virtual.env["BHATTI_IMAGES_DIR"])
    return traces(QemuSettings(state_dir=virtual.directory, images_dir=images))


def test_a_virtual_machine_outlives_the_killed_daemon(virtual: Daemon) -> None:
    made = json.loads(virtual.out("create", "one", "--memory", "256", "--json"))
    virtual.out("exec", "one", "--", "sh", "-c", "echo kept > /tmp/kept")
    kill(virtual)
    os.kill(int(made["engine_meta"]["pid"]), 0)
    virtual.start()
    (shown,) = listed(virtual)
    assert (shown["id"], shown["status"]) == (made["id"], "running")
    assert shown["engine_meta"] == made["engine_meta"]
    assert virtual.out("exec", "one", "--", "cat", "/tmp/kept") == b"kept\n"
    virtual.out("rm", "one")
    assert not seen(virtual).taps


def test_a_machine_half_made_is_undone(virtual: Daemon) -> None:
    """Killed while a kernel boots: the process is there, the row says `creating`, nobody got an answer."""
    with virtual.popen("create", "one", "--memory", "256", stderr=subprocess.PIPE) as caller:
        until(virtual, "SELECT * FROM intents WHERE kind='create'", caller)
        deadline = time.monotonic() + 60
        while not seen(virtual).taps and time.monotonic() < deadline:
            assert caller.poll() is None
        kill(virtual)
        _, told = caller.communicate(timeout=60)
    assert b"Traceback" not in told
    virtual.start()
    assert listed(virtual) == []
    assert query(virtual, "SELECT * FROM intents") == []
    left = seen(virtual)
    assert not left.taps, left
    assert virtual.machines("sandboxes") == []


def ended(pid: int) -> bool:
    """Tell whether a process has ended. Its parent was killed, so it may wait for init to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_machine_half_ended_is_gone(virtual: Daemon) -> None:
    made = json.loads(virtual.out("create", "one", "--memory", "256", "--json"))
    os.kill(int(made["engine_meta"]["pid"]), signal.SIGSTOP)  # it answers nobody: ending it takes a while
    with virtual.popen("rm", "one", stderr=subprocess.PIPE) as caller:
        until(virtual, "SELECT * FROM intents WHERE kind='destroy'", caller)
        kill(virtual)
        caller.communicate(timeout=60)
    virtual.start()
    assert listed(virtual) == []
    assert virtual.machines("sandboxes") == []
    assert not seen(virtual).taps
    assert ended(int(made["engine_meta"]["pid"]))
