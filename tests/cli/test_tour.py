"""A person's first minutes, against a real virtual machine, from nothing: no daemon, one command after the other."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon
from tests.serving import short_directory

from bhatti import paths
from bhatti.daemon.lock import holder
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture
def person() -> Iterator[Daemon]:
    """The command line of somebody who has built the images, and nothing more."""
    images = Path(paths.images_dir())
    ImageStore(images).build()
    with short_directory() as directory:
        found = Daemon(directory, engine="qemu", BHATTI_IMAGES_DIR=str(images))
        yield found
        pid = holder(directory / "daemon.lock")
        if pid is not None:
            found.remove_all()
            descriptor = os.pidfd_open(pid)
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            import select

            assert select.select([descriptor], [], [], 20)[0]
            os.close(descriptor)


def test_a_tour(person: Daemon) -> None:
    first = person.bhatti("run", "--memory", "256", "--", "uname", "-r")
    assert first.returncode == 0
    assert re.match(r"\d+\.\d+", first.stdout.decode())
    assert b"no daemon is running; started one" in first.stderr

    person.out("secret", "set", "TOKEN", stdin=b"s3cret")
    assert b"TOKEN" in person.out("secret", "ls")
    wanted = ("--memory", "256", "--secret", "TOKEN", "--init", "exec sleep 1000")
    made, name, address = person.out("create", "agent-1", *wanted).decode().rstrip("\n").split("\t")
    assert (name, bool(address)) == ("agent-1", True)
    assert "agent-1" in person.out("ls").decode()
    assert person.out("exec", "agent-1", "--", "hostname") == b"agent-1\n"
    assert person.bhatti("exec", "agent-1", "--", "sh", "-c", "exit 7").returncode == 7
    assert person.bhatti("exec", made[:6], "--", "true").returncode == 0

    person.out("file", "write", "agent-1", "/workspace/hello.txt", stdin=b"hello")
    assert person.out("file", "read", "agent-1", "/workspace/hello.txt") == b"hello"
    assert b"hello.txt" in person.out("file", "ls", "agent-1", "/workspace")
    headings, session = person.out("ps", "agent-1").splitlines()
    assert headings.split() == [b"ID", b"COMMAND", b"RUNNING", b"ATTACHED"]
    assert session.split()[0] == b"init"
    assert person.out("exec", "agent-1", "--", "printenv", "TOKEN") == b"s3cret\n"
    person.out("secret", "rm", "TOKEN")
    assert json.loads(person.out("doctor", "--json"))["ok"] is True

    assert person.out("rm", "agent-1") == b"destroyed\n"
    assert person.out("ls", "--json") == b"[]\n"
    assert person.machines("sandboxes") == []
