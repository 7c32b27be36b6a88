import hashlib
import json
import os
import signal
from pathlib import Path

from tests.unit.lohar.serving import Client, Serving, open_files

from lohar.processes import process
from lohar.wire.frames import FrameType


def start(client: Client, *argv: str, **options: object) -> None:
    client.send(FrameType.EXEC_REQ, argv=list(argv), **options)


def test_both_streams_and_the_code_come_back(client: Client) -> None:
    start(client, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert client.output() == (b"out\n", b"err\n", 3)


def test_input_is_passed_on_to_its_end(client: Client) -> None:
    start(client, "sort")
    client.send(FrameType.STDIN, b"b\na\n")
    client.send(FrameType.STDIN, b"c\n")
    client.send(FrameType.STDIN)
    assert client.output() == (b"a\nb\nc\n", b"", 0)


def test_no_input_is_an_empty_one(client: Client) -> None:
    start(client, "cat", no_stdin=True)
    assert client.output() == (b"", b"", 0)


def test_more_input_than_a_pipe_holds_arrives_whole(client: Client) -> None:
    start(client, "sha256sum")
    data = b"x" * 100_000
    for _ in range(20):
        client.send(FrameType.STDIN, data)
    client.send(FrameType.STDIN)
    assert client.output()[0].split()[0].decode() == hashlib.sha256(data * 20).hexdigest()


def test_kill_ends_the_whole_group(client: Client, tmp_path: Path) -> None:
    start(client, "sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo ready; wait")
    assert client.expect(FrameType.STDOUT) == b"ready\n"
    client.send(FrameType.KILL)
    assert client.output()[2] == 128 + signal.SIGKILL
    grandchild = int((tmp_path / "pid").read_text())
    client._serving.turn_until(lambda: (found := process(grandchild)) is None or found.state == "Z")


def test_a_lost_client_takes_its_command_along(serving: Serving) -> None:
    client = serving.connect()
    start(client, "sh", "-c", "echo ready; sleep 60")
    assert client.expect(FrameType.STDOUT) == b"ready\n"
    client.sock.close()
    serving.turn_until(lambda: not serving.agent.commands.running)


def test_the_reason_is_told_to_who_asks(client: Client) -> None:
    start(client, "sleep", "60", timeout_sec=0.05, exit_info=True)
    payload = client.expect(FrameType.EXIT)
    assert payload[4:] == b'{"reason":"timeout","signal":9}'


def test_a_background_child_does_not_hold_the_exit_up(client: Client, tmp_path: Path) -> None:
    start(client, "sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo started")
    assert client.output() == (b"started\n", b"", 0)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_detached_command_answers_with_its_pid_and_its_file(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    start(client, "sh", "-c", "echo $$; exec sleep 60", detach=True, output_file=str(log))
    detached = json.loads(client.expect(FrameType.STDOUT))
    assert detached["output_file"] == str(log)
    assert client.output()[2] == 0
    client._serving.turn_until(lambda: log.read_text() == f"{detached['pid']}\n")
    os.kill(detached["pid"], signal.SIGKILL)


def test_a_detached_command_that_cannot_start_leaves_no_file(client: Client, tmp_path: Path) -> None:
    start(client, "/nonexistent", detach=True)
    assert "no such file" in client.error()
    start(client, "true", detach=True, output_file=str(tmp_path / "missing" / "log"))
    assert "no such file" in client.error()


def test_starting_nothing_leaks_no_descriptor(client: Client) -> None:
    before = open_files()
    for _ in range(5):
        start(client, "/nonexistent")
        assert "no such file" in client.error()
    assert open_files() == before
