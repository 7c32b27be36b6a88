"""Forks and checkpoints when something is wrong with the disk or the machine: told clearly, nothing left, nothing lost.

The daemon's directory is a small file system of its own, so that it can be filled.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.daemons import Daemon, error_of
from tests.serving import short_directory

from bhatti.net.instance import instance_of
from bhatti.net.tap import taps_of

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system to fill"),
]

SIZE_MIB = 1200
"""Room for one sandbox of 256 MiB and one copy of it."""


@pytest.fixture(scope="module")
def virtual(images_dir: Path) -> Iterator[Daemon]:
    """A daemon with one virtual sandbox, called `one`."""
    with short_directory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", directory], check=True)
        try:
            served = Daemon(directory, engine="qemu", BHATTI_IMAGES_DIR=str(images_dir), BHATTI_QEMU_FORK="false")
            served.start()
            try:
                served.out("create", "one", "--memory", "256")
                yield served
            finally:
                served.remove_all()
                served.stop()
        finally:
            subprocess.run(["umount", directory], check=True)


@pytest.fixture
def home(virtual: Daemon) -> Path:
    """The directory of the sandbox `one`."""
    return virtual.directory / "sandboxes" / str(json.loads(virtual.out("inspect", "one", "--json"))["id"])


@pytest.fixture(autouse=True)
def nothing_lost_nothing_left(virtual: Daemon) -> Iterator[None]:
    """After each test `one` works, and is all there is."""
    yield
    assert virtual.out("exec", "-n", "one", "--", "echo", "alive") == b"alive\n"
    assert [found["name"] for found in json.loads(virtual.out("ls", "--json"))] == ["one"]
    assert len(virtual.machines("sandboxes")) == 1
    assert virtual.machines("molds") == []
    assert virtual.out("checkpoint", "ls", "one", "--json") == b"[]\n"


@contextmanager
def only_left(virtual: Daemon, mib: int) -> Iterator[None]:
    """Fill the file system but for so much."""
    stat = os.statvfs(virtual.directory)
    filler = virtual.directory / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - (mib << 20))
    try:
        yield
    finally:
        filler.unlink()


def flip_a_bit(path: Path) -> None:
    """Change a file as a failing disk does: nobody has written to it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        found = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([found ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


HARMS = (
    ("flipped", b"does not match its checksum"),
    ("truncated", b"has 1000 bytes instead of"),
    ("missing", b"the memory file of its memory snapshot cannot be used"),
    ("version", b"was taken with version 0.0.0"),
    ("manifest", b"the manifest of its memory snapshot is damaged"),
)
"""What may happen to a snapshot, and how it is told."""


@contextmanager
def harmed(home: Path, harm: str) -> Iterator[None]:
    """Harm the snapshot of a sandbox that sleeps; afterwards it is as it was, to the time of its last change."""
    path = home / {"missing": "ram", "version": "snapshot.json", "manifest": "snapshot.json"}.get(harm, "state")
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    content = bytearray() if harm == "missing" else bytearray(aside.read_bytes())
    match harm:
        case "flipped":
            content[len(content) // 2] ^= 1
        case "truncated" | "manifest":
            del content[1000 if harm == "truncated" else 100 :]
        case "version":
            manifest = json.loads(content)
            manifest["maker"]["version"] = "0.0.0"
            content = bytearray(json.dumps(manifest).encode())
    if content:
        path.write_bytes(content)
    try:
        yield
    finally:
        aside.replace(path)


@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_a_checkpoint_that_was_damaged_is_told_and_not_used(virtual: Daemon, home: Path, harm: str) -> None:
    virtual.out("checkpoint", "create", "one", "kept")
    state = home / "checkpoints" / "kept" / "state"
    if harm == "flipped":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    elif harm == "truncated":
        os.truncate(state, state.stat().st_size // 2)
    else:
        state.unlink()
    try:
        (shown,) = json.loads(virtual.out("checkpoint", "ls", "one", "--json"))
        assert not shown["usable"]
        assert "state" in shown["detail"]
        for order in (["fork", "one", "two", "--checkpoint", "kept"], ["checkpoint", "restore", "one", "kept"]):
            assert error_of(virtual.bhatti(*order, "--json")) == (5, "checkpoint-unusable")
    finally:
        virtual.out("checkpoint", "rm", "one", "kept")


@pytest.mark.parametrize("mib", [2, 30, 150])
def test_a_full_disk_ends_a_copy_and_costs_nothing(virtual: Daemon, mib: int) -> None:
    """At the first byte, in the middle of the memory, and at the fork's own files."""
    with only_left(virtual, mib):
        assert error_of(virtual.bhatti("fork", "one", "two", "--json")) == (74, "out-of-space")
        if mib < 150:
            assert error_of(virtual.bhatti("checkpoint", "create", "one", "kept", "--json")) == (74, "out-of-space")


def test_a_stop_on_a_full_disk_fails_and_what_was_on_the_disk_is_there(virtual: Daemon) -> None:
    """The guest itself may die of it, of the first page that it touches anew: then that is the cause."""
    virtual.out("exec", "one", "--", "sh", "-c", "echo on disk > /workspace/kept; sync")
    with only_left(virtual, 0):
        code = error_of(virtual.bhatti("stop", "one", "--json"))[1]
        assert code in ("out-of-space", "save-failed", "died-stopping", "illegal-transition"), code
        shown = json.loads(virtual.out("inspect", "one", "--json"))
    if shown["status"] == "failed":
        assert shown["cause"]["kind"] == "disk-full"
        assert virtual.out("start", "one").startswith(b"disk-boot: ")
    assert virtual.out("exec", "-n", "one", "--", "cat", "/workspace/kept") == b"on disk\n"
    assert virtual.out("stop", "one") == b"stopped\n"


def test_a_tap_that_was_removed_by_hand_is_there_again_after_a_sleep(virtual: Daemon) -> None:
    virtual.out("exec", "one", "--", "sh", "-c", "echo in memory > /dev/shm/kept")
    instance = instance_of(virtual.directory)
    (tap,) = taps_of(instance)
    subprocess.run(["ip", "link", "delete", tap], check=True)
    code = error_of(virtual.bhatti("exec", "--json", "--timeout", "5", "one", "--", "true"))[1]
    assert code in ("guest-unreachable", "guest-timeout", "connection-lost"), code
    assert virtual.out("stop", "one") == b"stopped\n"
    assert virtual.out("start", "one").startswith(b"restored")
    assert list(taps_of(instance)) == [tap]
    assert virtual.out("exec", "-n", "one", "--", "cat", "/dev/shm/kept") == b"in memory\n"


def test_a_fork_whose_qemu_is_killed_while_it_loads_is_undone(virtual: Daemon, home: Path) -> None:
    with virtual.popen("fork", "one", "two", "--json", stderr=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
        pid = 0
        while not pid and caller.poll() is None:
            for path in (virtual.directory / "sandboxes").glob("*/machine.json"):
                if path.parent != home:
                    pid = json.loads(path.read_bytes())["pid"]
        assert pid, "the fork was over before it was seen"
        os.kill(pid, signal.SIGKILL)
        out, told = caller.communicate(timeout=60)
    assert error_of(subprocess.CompletedProcess([], caller.returncode, out, told)) == (73, "boot-failed")


def test_a_snapshot_that_was_damaged_is_told_before_anybody_needs_it(virtual: Daemon, home: Path) -> None:
    virtual.out("exec", "one", "--", "sh", "-c", "echo on disk > /workspace/kept")
    virtual.out("stop", "one")
    assert virtual.out("snapshot", "verify", "one", "--probe").startswith(b"ok: ")
    flip_a_bit(home / "ram")
    flipped = virtual.bhatti("snapshot", "verify", "one")
    assert flipped.returncode == 65
    assert b"checksum" in flipped.stdout
    flip_a_bit(home / "ram")
    assert virtual.out("snapshot", "verify", "one").startswith(b"ok: ")
    for harm, words in HARMS:
        with harmed(home, harm):
            done = virtual.bhatti("start", "--memory", "one", "--json")
            assert error_of(done) == (5, "memory-lost")
            assert words in done.stderr
            assert words in virtual.bhatti("snapshot", "verify", "one").stdout
    assert json.loads(virtual.out("inspect", "one", "--json"))["status"] == "stopped"
    assert virtual.out("start", "--memory", "one").startswith(b"restored")
    virtual.out("stop", "one")
    os.truncate(home / "state", 1000)
    verified = virtual.bhatti("snapshot", "verify", "one")
    assert verified.returncode == 65
    assert verified.stdout.startswith(b"unusable: ")
    assert virtual.out("start", "one").startswith(b"disk-boot: ")
    assert json.loads(virtual.out("inspect", "one", "--json"))["why"]
    assert virtual.out("exec", "-n", "one", "--", "cat", "/workspace/kept") == b"on disk\n"
