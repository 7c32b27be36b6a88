"""The daemon is killed in the middle of a rotation of the secrets' key: no value is lost, and one key is left."""

import json
import random
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.daemons import Daemon

from bhatti.errors import Unavailable
from bhatti.operations import table, types

VALUES = {f"S{number}": f"value-{number}" for number in range(20)}


def keep(served: Daemon) -> None:
    with served.client() as client:
        for name, value in VALUES.items():
            client.call(table.SECRET_SET, types.SecretSet(name=name, value=value))


def keys(served: Daemon) -> list[str]:
    return (served.directory / "secrets.key").read_text().split()


def check_everything_is_there(served: Daemon) -> None:
    """One key is left, and with it every value reaches a sandbox that asks for it."""
    assert len(keys(served)) == 1
    assert not Path(served.directory, "secrets.key.new").exists()
    assert {found["name"] for found in json.loads(served.out("secret", "ls", "--json"))} == set(VALUES)
    asked = [part for name in VALUES for part in ("--secret", name)]
    served.out("create", "asker", *asked)
    told = served.out("exec", "-n", "asker", "--", "printenv", *VALUES)
    assert told.decode().split() == list(VALUES.values())
    served.out("rm", "asker")


def test_between_the_new_key_and_the_values_sealed_with_it(served: Daemon) -> None:
    keep(served)
    (before,) = keys(served)
    with closing(sqlite3.connect(served.directory / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # what the daemon is to seal again waits for us
        with served.popen("secret", "rotate-key", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as caller:
            while len(keys(served)) < 2:
                assert caller.poll() is None
            assert served.stop(signal.SIGKILL) == -signal.SIGKILL
            _, told = caller.communicate(timeout=60)
        assert caller.returncode == 69
        assert b"Traceback" not in told
        other.execute("ROLLBACK")
    assert before in keys(served)
    served.start()
    assert "finishing a rotation" in served.log
    assert before not in keys(served)
    check_everything_is_there(served)


def test_at_any_moment(served: Daemon) -> None:
    keep(served)
    chance = random.Random(20261123)
    for _ in range(2):
        with ThreadPoolExecutor(1) as threads, served.client() as client:
            rotated = threads.submit(client.call, table.SECRET_ROTATE_KEY)
            time.sleep(chance.uniform(0.0, 0.1))  # the moment is the point of the test
            assert served.stop(signal.SIGKILL) == -signal.SIGKILL
            error = rotated.exception(60)
        assert error is None or isinstance(error, Unavailable), error
        served.start()
        assert len(keys(served)) == 1
    check_everything_is_there(served)
