"""`bhatti exec` as a part of pipelines: any bytes, any amount, any end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon, daemon

pytestmark = pytest.mark.timeout(600)

MUCH = 512 << 20
PIECE = bytes(range(256)) * 1024
FLAT_KIB = 64 << 10
"""What `bhatti exec` and the daemon may take more for so much than for nothing; expected: some MiB of buffers."""


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with daemon() as found:
        found.out("create", "one")
        yield found


def shell(served: Daemon, line: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash, in which `$B` is `bhatti`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**served.env, "B": f"{sys.executable} -m bhatti"},
        cwd=served.directory,
        capture_output=True,
        timeout=120,
        check=False,
    )


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])


def test_half_a_gibibyte_goes_in_and_comes_out_in_flat_memory(served: Daemon) -> None:
    assert served.process is not None
    before = peak_kib(served.process.pid)
    with served.popen("exec", "one", "--", "cat", stdin=-1, stdout=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        first = peak_kib(process.pid)

        def feed() -> None:
            assert process.stdin is not None
            for _ in range(MUCH // len(PIECE)):
                process.stdin.write(PIECE)
            process.stdin.flush()

        feeder = threading.Thread(target=feed)
        feeder.start()
        for _ in range(MUCH // len(PIECE)):
            assert process.stdout.read(len(PIECE)) == PIECE
        feeder.join()
        assert peak_kib(process.pid) - first < FLAT_KIB
        assert peak_kib(served.process.pid) - before < FLAT_KIB
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


def test_a_reader_who_has_enough_ends_the_whole_pipeline(served: Daemon) -> None:
    done = shell(served, "$B exec one -- sh -c 'echo $$ >&2; exec cat /dev/zero' | head -c 1000000 | wc -c")
    assert (done.stdout.strip(), done.returncode) == (b"1000000", 128 + signal.SIGPIPE)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stderr), 0)


@pytest.mark.parametrize(
    ("line", "output", "code"),
    [
        ("$B exec one -- cat <&-", b"", 0),
        ("true | $B exec one -- cat", b"", 0),
        ("$B exec one -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null", b"err\n", 0),
        ("$B exec one -- sh -c 'exit 3' | cat", b"", 3),
        ("printf '\\0\\377\\n' | $B exec one -- od -An -tx1", b" 00 ff 0a\n", 0),
        ("printf 'a\\nb\\n' | while read -r x; do $B exec -n one -- echo \"$x\"; done", b"a\nb\n", 0),
        ("$B exec one -- sh -c 'kill -9 $$'", b"", 137),
        ("$B exec one -- sh -c 'kill -TERM $$'", b"", 143),
        ("$B exec one -- echo hidden >&-", b"", 0),
    ],
)
def test_what_shells_do_with_streams_and_codes(served: Daemon, line: str, output: bytes, code: int) -> None:
    done = shell(served, line)
    assert b"Traceback" not in done.stderr
    assert (done.stdout, done.returncode) == (output, code), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_pipeline_ends_what_runs_there_and_all_it_started(
    served: Daemon, number: signal.Signals
) -> None:
    command = ("exec", "one", "--", "sh", "-c", "sleep 1000 & echo $! $$; wait")
    with served.popen(*command, stdin=-1, stdout=-1, start_new_session=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number
        assert process.stdout.read() == b""
    assert shell(served, f"$B exec one -- ps -o pid= -p {pids[0]},{pids[1]}").stdout == b""
