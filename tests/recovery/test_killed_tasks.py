"""The daemon is killed in the middle of a task: whoever waits is told, and the next daemon tells what became of it."""

import fcntl
import json
import os
import signal
import subprocess

from tests.daemons import Daemon, error_of

from bhatti.operations import table, types


def test_a_task_under_way_was_interrupted(served: Daemon) -> None:
    served.env["BHATTI_URL"] = str(served.endpoint)  # or the command line would start a daemon of its own
    images = served.directory / "images"
    images.mkdir(exist_ok=True)
    held = os.open(images / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # the build waits for us, as for another one
        task_id = served.out("image", "build", "--detach", "--quiet").decode().strip()
        with served.popen("task", "wait", task_id, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            with served.client() as client:
                for event in client.stream(table.TASK_WAIT, None, types.TaskEvent, task=task_id):
                    if event.task is not None and event.task.stage == "waiting for another build":
                        break
            assert served.stop(signal.SIGKILL) == -signal.SIGKILL
            _, told = waiting.communicate(timeout=60)
        assert waiting.returncode == 69, told
        assert b"Traceback" not in told
    finally:
        os.close(held)
    served.start()
    (found,) = json.loads(served.out("task", "ls", "--json"))
    assert (found["id"], found["status"], found["image"]) == (task_id, "interrupted", None)
    assert found["ended_at"] is not None
    assert error_of(served.bhatti("task", "wait", task_id, "--json")) == (69, "task-interrupted")
    assert json.loads(served.out("image", "ls", "--json")) == []
    free = os.open(images / "lock", os.O_RDWR)
    try:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody builds on behind the back of the next daemon
    finally:
        os.close(free)
