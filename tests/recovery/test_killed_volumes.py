"""The daemon is killed while it makes, grows, clones and removes volumes: each is whole, or not there."""

import json
import random
import signal
import socket
import sqlite3
import time
from contextlib import closing

import pytest
from tests.daemons import Daemon

from bhatti.images.volume import check_volume

ORDERS = (
    ("volume", "create", "new", "--size", "64M"),
    ("volume", "clone", "data", "copy"),
    ("volume", "resize", "data", "2G"),
    ("volume", "rm", "spare"),
    ("create", "box", "--volume", "data:/data"),
)


def rows(served: Daemon) -> list[tuple[str, str, int]]:
    with closing(sqlite3.connect(f"file:{served.directory}/state.db?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT name, status, size_mib FROM volumes ORDER BY name").fetchall()


def test_a_volume_goes_with_the_sandbox_that_it_was_made_for(served: Daemon) -> None:
    asked = {"name": "box", "image": "mute", "volumes": [{"name": "new", "target": "/data", "auto_create": True}]}
    body = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(served.endpoint.path))
        caller.sendall(b"POST /sandboxes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        caller.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        deadline = time.monotonic() + 60
        while not list((served.directory / "m").glob("*/machine.json")):
            assert time.monotonic() < deadline
        assert [name for name, _, _ in rows(served)] == ["new"]
        assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    served.start()
    assert json.loads(served.out("ls", "--json")) == json.loads(served.out("volume", "ls", "--json")) == []
    assert (rows(served), list((served.directory / "volumes").iterdir()), served.machines()) == ([], [], [])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(order[:2]))
def test_no_volume_is_half_there(served: Daemon, order: tuple[str, ...]) -> None:
    served.env["BHATTI_URL"] = str(served.endpoint)  # or one that comes too late would start a daemon of its own
    served.out("volume", "create", "data", "--size", "1G")
    chance = random.Random(" ".join(order))
    for _ in range(2):
        served.bhatti("volume", "create", "spare", "--size", "64M")
        process = served.popen(*order, stdout=-1, stderr=-1)
        time.sleep(chance.uniform(0.15, 0.4))  # the moment is the point of the test
        assert served.stop(signal.SIGKILL) == -signal.SIGKILL
        process.communicate(timeout=60)
        served.start()
        files = {path.name: path for path in (served.directory / "volumes").iterdir()}
        told = rows(served)
        assert {status for _, status, _ in told} == {"ready"}
        assert sorted(files) == [f"{name}.ext4" for name, _, _ in told]
        for name, _, size_mib in told:
            check_volume(files[f"{name}.ext4"])
            assert files[f"{name}.ext4"].stat().st_size == size_mib << 20
        for found in json.loads(served.out("volume", "ls", "--json")):
            assert [use["sandbox"] for use in found["attached"]] == [
                sandbox["name"] for sandbox in json.loads(served.out("ls", "--json")) if sandbox["volumes"]
            ] * (found["name"] == "data")
        served.bhatti("rm", "-f", "box")
        served.bhatti("volume", "rm", "-f", "new", "copy")
    served.out("volume", "rm", "data")
