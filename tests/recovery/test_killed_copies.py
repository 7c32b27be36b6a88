"""The daemon is killed while a virtual machine is copied, put to sleep or woken: it goes on, and no copy is left."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conformance.leftovers import traces
from tests.daemons import Daemon, daemon
from tests.recovery.test_killed_daemon import kill, listed, query

from bhatti import paths
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.qemu.snapshot import MANIFEST_FILE
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

ATTEMPTS = 8
"""How often an order is given until the daemon is killed in the middle of it: some take but 50 ms."""

KEPT = "/dev/shm/kept"


@pytest.fixture(scope="module")
def virtual() -> Iterator[Daemon]:
    """A daemon with one virtual sandbox, called `one`, that remembers something in its memory."""
    images = Path(paths.images_dir())
    ImageStore(images).build()
    with daemon(engine="qemu", BHATTI_IMAGES_DIR=str(images), BHATTI_QEMU_READY_POOL="1") as found:
        found.env["BHATTI_URL"] = str(found.endpoint)  # or `create` would start a daemon of its own
        found.out("create", "one", "--memory", "256")
        found.out("exec", "one", "--", "sh", "-c", f"echo in memory > {KEPT}")
        yield found


def home(virtual: Daemon) -> Path:
    """The directory of the sandbox `one`."""
    return virtual.directory / "sandboxes" / query(virtual, "SELECT id FROM sandboxes WHERE name='one'")[0][0]


def in_phase(virtual: Daemon, phase: str) -> Callable[[], bool]:
    record = home(virtual) / "machine.json"
    return lambda: f'"phase":"{phase}"'.encode() in record.read_bytes()


def killed_in(virtual: Daemon, order: list[str], middle: Callable[[], bool], undo: list[str] | None = None) -> None:
    """Give an order and kill the daemon as soon as it is in the middle of it; with luck at the first attempt."""
    for _ in range(ATTEMPTS):
        with virtual.popen(*order, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as caller:
            caught = False
            while not caught and caller.poll() is None:
                caught = middle()
            if caught:
                kill(virtual)
            _, told = caller.communicate(timeout=60)
            assert b"Traceback" not in told
        if caught:
            return
        assert caller.returncode == 0, told
        if undo is not None:
            virtual.out(*undo)
    pytest.fail(f"{order[0]} was over too quickly each time")


def check_nothing_lost_nothing_left(virtual: Daemon) -> None:
    """`one` works and remembers; what the store knows is what there is."""
    assert virtual.out("exec", "-n", "one", "--", "cat", KEPT) == b"in memory\n"
    assert query(virtual, "SELECT * FROM intents") == []
    ids = sorted(str(found["id"]) for found in listed(virtual))
    assert len(ids) == 1
    assert virtual.machines("sandboxes") == ids
    assert virtual.machines("molds") == []
    settings = QemuSettings(state_dir=virtual.directory, images_dir=Path(virtual.env["BHATTI_IMAGES_DIR"]))
    left = traces(settings)
    assert len(left.taps) == 1, left
    assert not list(home(virtual).glob("*.new"))


def test_a_fork_half_made_is_undone_and_its_source_goes_on(virtual: Daemon) -> None:
    killed_in(virtual, ["fork", "one", "two"], in_phase(virtual, "casting"), undo=["rm", "two"])
    virtual.start()
    assert in_phase(virtual, "running")()
    check_nothing_lost_nothing_left(virtual)


def test_a_fork_half_woken_is_undone(virtual: Daemon) -> None:
    def woken() -> bool:
        return any(
            b'"phase":"creating"' in path.read_bytes()
            for path in virtual.directory.glob("sandboxes/*/machine.json")
            if path.exists()
        )

    killed_in(virtual, ["fork", "one", "two"], woken, undo=["rm", "two"])
    virtual.start()
    check_nothing_lost_nothing_left(virtual)


def test_a_checkpoint_half_kept_is_swept(virtual: Daemon) -> None:
    copy = home(virtual) / "checkpoints" / "kept"
    order, undo = ["checkpoint", "create", "one", "kept"], ["checkpoint", "rm", "one", "kept"]
    killed_in(virtual, order, lambda: copy.exists() and not (copy / MANIFEST_FILE).exists(), undo=undo)
    virtual.start()
    assert not copy.exists()
    assert virtual.out("checkpoint", "ls", "one", "--json") == b"[]\n"
    check_nothing_lost_nothing_left(virtual)


def test_a_sandbox_half_asleep_is_awake_or_asleep(virtual: Daemon) -> None:
    killed_in(virtual, ["stop", "one"], in_phase(virtual, "stopping"), undo=["start", "one"])
    virtual.start()
    check_nothing_lost_nothing_left(virtual)


def test_a_sandbox_half_woken_is_asleep_or_awake(virtual: Daemon) -> None:
    virtual.out("stop", "one")
    killed_in(virtual, ["start", "one"], in_phase(virtual, "starting"), undo=["stop", "one"])
    virtual.start()
    check_nothing_lost_nothing_left(virtual)


def test_a_paused_sandbox_is_paused_still_and_woken_by_a_call(virtual: Daemon) -> None:
    virtual.out("pause", "one")
    before = json.loads(virtual.out("inspect", "one", "--json"))
    kill(virtual)
    virtual.start()
    shown = json.loads(virtual.out("inspect", "one", "--json"))
    assert (shown["status"], shown["thermal"]) == ("running", "warm")
    assert shown["engine_meta"] == before["engine_meta"]
    check_nothing_lost_nothing_left(virtual)
    assert json.loads(virtual.out("inspect", "one", "--json"))["thermal"] == "hot"


def test_forks_that_are_ready_go_with_the_daemon_and_those_that_were_taken_stay(virtual: Daemon) -> None:
    virtual.out("create", "two", "--memory", "256")
    deadline = time.monotonic() + 60
    while not ready(virtual):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # nothing tells when it is there
    made = json.loads(virtual.out("create", "three", "--memory", "256", "--json"))
    assert made["how"] == "pooled"
    virtual.out("exec", "three", "--", "sh", "-c", f"hostname > {KEPT}")
    kill(virtual)
    virtual.start()
    assert virtual.out("exec", "three", "--", "cat", KEPT) == b"three\n"
    # Its first stop writes all of its memory; killed in the middle of that, QEMU goes on with it, and is let finish.
    state = home_of(virtual, made["id"]) / "state"
    killed_in(virtual, ["stop", "three"], lambda: state.exists() and state.stat().st_size > 1 << 20)
    virtual.start()
    assert virtual.out("exec", "three", "--", "cat", KEPT) == b"three\n"
    virtual.out("stop", "three")
    assert virtual.out("exec", "three", "--", "cat", KEPT) == b"three\n"
    virtual.out("rm", "two", "three")
    check_nothing_lost_nothing_left(virtual)
    assert virtual.stop(signal.SIGTERM) == 0
    virtual.start()


def home_of(virtual: Daemon, sandbox_id: str) -> Path:
    """The directory of a sandbox, which may have been made before it had its id."""
    for path in virtual.directory.glob("sandboxes/*/machine.json"):
        if json.loads(path.read_bytes())["spec"]["id"] == sandbox_id:
            return path.parent
    raise AssertionError(f"no machine is {sandbox_id}")


def ready(virtual: Daemon) -> bool:
    """Whether a ready fork waits, as its record says."""
    records = virtual.directory.glob("sandboxes/ready-*/machine.json")
    return any(json.loads(path.read_bytes())["how"] == "pooled" for path in records)
