import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from tests.daemons import Daemon
from tests.serving import serving, short_directory

from bhatti import CommandFailed, Sandbox
from bhatti.errors import BhattiError, Conflict, InvalidRequest, NotFound, Unauthorized, Unavailable
from bhatti.model.sandbox import Status, Temperature

SERVER = """
import http.server
class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404 if self.path.startswith("/missing") else 200)
        self.send_header("X-Path", self.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_the_examples_in_its_documentation_are_true(examples: Callable[[type], int]) -> None:
    assert examples(Sandbox) > 20


def test_a_block_destroys_what_it_made_and_leaves_alone_what_it_found(address: str) -> None:
    with Sandbox.create("made") as made:
        with Sandbox.connect("made") as found:
            assert found.id == made.id
        assert found.inspect().status is Status.RUNNING
    with pytest.raises(NotFound):
        Sandbox.connect("made")
    made.destroy()  # gone already: no error


def test_a_block_that_fails_destroys_it_too(address: str) -> None:
    with pytest.raises(ZeroDivisionError), Sandbox.create("failing"):
        _ = 1 / 0
    with pytest.raises(NotFound):
        Sandbox.connect("failing")


def test_what_is_asked_for_is_made(address: str) -> None:
    with Sandbox.create(cpus=2, memory_mb=300, labels={"team": "x"}, keep_hot=True) as sandbox:
        assert sandbox.info.labels == {"team": "x"}
        assert sandbox.info.keep_hot
        assert (sandbox.info.cpus, sandbox.info.memory_mb) == (2, 300)


def test_errors_are_typed(sb: Sandbox) -> None:
    with pytest.raises(Conflict):
        Sandbox.create("one")
    with pytest.raises(NotFound):
        Sandbox.create(image="missing")
    with pytest.raises(InvalidRequest):
        sb.run([])
    with pytest.raises(BhattiError) as caught:
        sb.files.read("/nowhere")
    assert caught.value.code


def test_nobody_there_is_told() -> None:
    with pytest.raises(Unavailable) as caught:
        Sandbox.list(url="unix:///nowhere/at.sock")
    assert caught.value.code == "daemon-not-running"


def test_a_command_has_what_it_was_given(sb: Sandbox) -> None:
    done = sb.run(["sh", "-c", "pwd; echo $WORD; cat"], cwd="/", env={"WORD": "w"}, stdin=b"in\0put")
    assert done.stdout_bytes == b"/\nw\nin\0put"
    assert sb.run("cat", stdin=(b"x" * 70_000 for _ in range(40))).stdout_bytes == b"x" * 2_800_000


def test_a_command_that_must_succeed_raises_with_its_result(sb: Sandbox) -> None:
    with pytest.raises(CommandFailed, match="exit code 4: no luck") as caught:
        sb.run("echo no luck >&2; exit 4", check=True)
    assert caught.value.result.exit_code == 4


def test_output_beyond_the_limit_is_dropped_either_way(sb: Sandbox) -> None:
    for stdin in (None, b""):
        done = sb.run("printf 0123456789", max_output_bytes=4, stdin=stdin)
        assert (done.stdout, done.truncated) == ("0123", True)


def test_leaving_a_stream_early_ends_the_command(sb: Sandbox) -> None:
    with sb.stream("echo $$; exec sleep 600") as running:
        pid = int(next(running).text)
    # `tail --pid` ends when the process has
    assert sb.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60).ok


def test_leaving_a_loop_early_ends_the_command(sb: Sandbox) -> None:
    for output in sb.stream("echo $$; exec sleep 600"):
        pid = int(output.text)
        break
    assert sb.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60).ok


def test_a_web_server_answers_through_the_proxy(sb: Sandbox) -> None:
    with sb.stream([sys.executable, "-c", SERVER]) as running:
        port = int(next(running).text)
        answer = sb.request(port, "/a b?q=1", method="POST", body=b"hello", headers={"X-Mine": "1"})
        assert (answer.status, answer.body, answer.headers["x-path"]) == (200, b"hello", "/a%20b?q=1")
        assert sb.request(port, "/missing", method="POST", body=b"").status == 404
    with pytest.raises(InvalidRequest):
        sb.request(port, "no-slash")


def test_it_sleeps_and_wakes_and_says_so(sb: Sandbox) -> None:
    assert sb.pause().thermal is Temperature.WARM
    assert sb.resume().thermal is Temperature.HOT
    assert sb.stop().status is Status.STOPPED
    assert sb.start(memory=True).status is Status.RUNNING
    assert sb.info.status is Status.RUNNING


def test_a_fork_goes_on_from_a_checkpoint(sb: Sandbox) -> None:
    sb.files.write_text("note", "then")
    sb.checkpoint("then")
    sb.files.write_text("note", "now")
    assert [found.name for found in sb.checkpoints()] == ["then"]
    with sb.fork("past", checkpoint="then") as past:
        assert past.name == "past"
        assert past.files.read_text("note") == "then"
    with pytest.raises(NotFound):
        Sandbox.connect("past")
    sb.remove_checkpoint("then")
    assert sb.checkpoints() == []


def test_many_threads_may_use_one(sb: Sandbox) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=lambda n=n: said.append(sb.run(f"echo {n}").stdout.strip())) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["0", "1", "2", "3"]


async def _over_tcp(use: Callable[[str, str], None]) -> None:
    with short_directory() as directory:
        async with serving(directory, "listen=127.0.0.1:0") as served:
            key = await served.user("somebody")
            await anyio.to_thread.run_sync(use, served.url, key)


def test_a_key_is_shown_on_tcp_with_every_kind_of_call() -> None:
    def use(url: str, key: str) -> None:
        with pytest.raises(Unauthorized):
            Sandbox.list(url=url)
        with Sandbox.create(url=url, api_key=key) as sandbox:
            assert sandbox.info.created_by
            assert sandbox.run("cat", stdin="over a socket").stdout == "over a socket"
            sandbox.files.write("note", b"kept")
            with sandbox.fork() as other:
                assert other.files.read("note") == b"kept"
            assert sandbox.id in [found.id for found in Sandbox.list(url=url, api_key=key)]

    anyio.run(_over_tcp, use)


def test_an_interrupted_call_ends_its_command(served: Daemon, sb: Sandbox, tmp_path: Path) -> None:
    env = {**served.env, "BHATTI_URL": str(served.endpoint)}
    script = f"from bhatti import Sandbox; Sandbox.connect({sb.id!r}).run('echo $$ > {tmp_path}/pid; exec sleep 600')"
    with sb.stream(f"mkfifo {tmp_path}/pid; cat {tmp_path}/pid") as waiting:
        caller = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
        with caller:
            pid = int(next(waiting).text)
            caller.send_signal(signal.SIGINT)
            assert caller.wait(60) == -signal.SIGINT
    assert sb.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60).ok
