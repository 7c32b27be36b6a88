import os
import threading
from pathlib import Path

import pytest
from tests.privileges import AS_OTHERS

from lohar.credentials import Credentials
from lohar.failures import RequestError

NOBODY = 65534


def ids() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), sorted(os.getgroups())


@AS_OTHERS
def test_a_user_is_assumed_and_dropped_again() -> None:
    before = ids()
    credentials = Credentials(NOBODY, NOBODY, [NOBODY, 100])
    credentials.assume()
    try:
        assert ids() == (NOBODY, NOBODY, [100, NOBODY])
        descriptor = os.memfd_create("made")
    finally:
        credentials.drop()
    assert ids() == before
    made = os.fstat(descriptor)
    os.close(descriptor)
    assert (made.st_uid, made.st_gid) == (NOBODY, NOBODY)


@AS_OTHERS
def test_other_threads_stay_who_they_are() -> None:
    seen: list[str] = []
    assumed, looked = threading.Event(), threading.Event()

    def look() -> None:
        assumed.wait(60)
        seen.append(Path("/proc/thread-self/status").read_text().split("Uid:")[1].split()[1])
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    credentials = Credentials(NOBODY, NOBODY, [])
    credentials.assume()
    try:
        assumed.set()
        looked.wait(60)
    finally:
        credentials.drop()
    thread.join()
    assert seen == ["0"]


@AS_OTHERS
def test_a_child_cannot_come_back() -> None:
    credentials = Credentials(NOBODY, NOBODY, [])
    reader, writer = os.pipe()
    script = "import os\ntry: os.setresuid(0, 0, 0)\nexcept PermissionError: print(os.getresuid())"
    credentials.assume()
    try:
        pid = os.posix_spawn(
            "/usr/bin/env",
            ["env", "python3", "-c", script],
            {"PATH": "/usr/bin:/bin"},
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
        )
    finally:
        credentials.drop()
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 100).decode().strip() == f"({NOBODY}, {NOBODY}, {NOBODY})"
    os.close(reader)


@AS_OTHERS
def test_who_is_not_root_any_more_is_told_so() -> None:
    credentials = Credentials(NOBODY, NOBODY, [])
    credentials.assume()
    try:
        with pytest.raises(RequestError, match="permission denied"):
            Credentials(0, 0, [])
    finally:
        credentials.drop()
