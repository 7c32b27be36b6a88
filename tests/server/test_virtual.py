"""The API against a real virtual machine: one, shared by all tests, which leave it as they found it."""

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from tests.daemons import Daemon, error_of
from tests.terminals import screen
from tests.tmux import bhatti_in_window

pytestmark = [pytest.mark.vm, pytest.mark.anyio, pytest.mark.timeout(600)]

WEB_SERVER = "import http.server as s; s.HTTPServer(('127.0.0.1', 7777), s.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture
async def http(virtual: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(virtual.endpoint.path)
    async with aiohttp.ClientSession(connector=connector, base_url="http://bhatti") as session:
        yield session


def test_it_has_a_kernel_a_name_and_a_user_of_its_own(virtual: Daemon) -> None:
    kernel, host, user, place, greeting = (
        virtual.out("exec", "one", "--", "sh", "-c", "uname -r; hostname; id -un; pwd; echo $GREETING")
        .decode()
        .split("\n")
    )[:5]
    assert kernel != platform.release()
    assert (host, user, place, greeting) == ("one", "lohar", "/workspace", "hello there")


def test_what_is_told_of_it_is_true(virtual: Daemon) -> None:
    shown = json.loads(virtual.out("inspect", "one", "--json"))
    assert (shown["status"], shown["engine"], shown["how"]) == ("running", "qemu", "booted")
    assert shown["accelerator"] in ("tcg", "kvm")
    assert shown["timings_ms"]["total"] > 0
    os.kill(int(shown["engine_meta"]["pid"]), 0)
    memory_kib = int(virtual.out("exec", "one", "--", "sh", "-c", "grep MemTotal /proc/meminfo").split()[1])
    assert 150_000 < memory_kib < 256 * 1024


async def test_commands_are_streamed(http: aiohttp.ClientSession) -> None:
    request = {"cmd": ["sh", "-c", "echo out; echo err >&2; exit 3"]}
    headers = {"Accept": "application/x-ndjson"}
    async with http.post("/sandboxes/one/exec", json=request, headers=headers) as response:
        events = [json.loads(line) async for line in response.content]
    assert {event["type"] for event in events} == {"stdout", "stderr", "exit"}
    assert events[-1]["exit_code"] == 3


def test_a_large_file_comes_back_as_it_went(virtual: Daemon) -> None:
    data = os.urandom(10 << 20)
    virtual.out("file", "write", "one", "/workspace/big", stdin=data)
    assert virtual.out("exec", "one", "--", "stat", "-c", "%s %U", "/workspace/big") == b"10485760 lohar\n"
    assert virtual.out("file", "read", "one", "/workspace/big") == data
    virtual.out("exec", "one", "--", "rm", "/workspace/big")


def test_a_directory_goes_in_and_comes_back_as_it_was(virtual: Daemon, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "run").write_bytes(os.urandom(1 << 20))
    (tree / "sub" / "run").chmod(0o775)
    (tree / "link").symlink_to("sub/run")
    virtual.out("file", "cp", str(tree), "one:/workspace")
    look = "cd tree && stat -c '%n %U %a' sub/run && readlink link && sha256sum < link"
    said = virtual.out("exec", "one", "--", "sh", "-c", look).decode().splitlines()
    assert said[:2] == ["sub/run lohar 775", "sub/run"]
    assert said[2].split()[0] == hashlib.sha256((tree / "sub" / "run").read_bytes()).hexdigest()
    virtual.out("file", "mkdir", "one", "/workspace/moved/deep")
    virtual.out("file", "mv", "one", "/workspace/tree", "/workspace/moved/deep")
    virtual.out("file", "cp", "one:/workspace/moved/deep/tree", f"{tmp_path}/back")
    assert (tmp_path / "back" / "link").read_bytes() == (tree / "sub" / "run").read_bytes()
    assert (tmp_path / "back" / "sub" / "run").stat().st_mode & 0o777 == 0o775
    assert error_of(virtual.bhatti("file", "rm", "one", "/workspace/moved", "--json")) == (5, "directory-not-empty")
    virtual.out("file", "rm", "-r", "one", "/workspace/moved")
    assert virtual.out("exec", "one", "--", "ls", "/workspace") == b""


async def test_a_published_page_wakes_its_sandbox_from_the_disk(virtual: Daemon) -> None:
    virtual.out("file", "write", "one", "/workspace/public.html", stdin=b"for everybody")
    server = WEB_SERVER.replace("7777", "7778")
    left = json.loads(virtual.out("exec", "-d", "--json", "one", "--", "python3", "-c", server))
    url = virtual.out("publish", "one", "7778", "--alias", "public").decode().strip() + "public.html"
    try:
        async with aiohttp.ClientSession() as stranger:
            with anyio.fail_after(60):
                while True:  # nothing announces that the server has begun to listen
                    async with stranger.get(url) as response:
                        if response.status == 200:
                            break
                        assert response.status == 502
                    await anyio.sleep(0.2)
            virtual.out("stop", "one")
            assert json.loads(virtual.out("inspect", "one", "--json"))["thermal"] == "cold"
            async with stranger.get(url, headers={"Accept": "text/html"}) as response:
                assert (response.status, await response.text()) == (200, "for everybody")
            ports = [found["container_port"] for found in json.loads(virtual.out("port", "ls", "one", "--json"))]
            assert 7778 in ports
            assert not {1024, 1025} & set(ports)
    finally:
        virtual.out("unpublish", "one", "7778")
        virtual.out("exec", "one", "--", "sh", "-c", f"kill {left['pid']}; rm public.html")


async def test_a_page_is_fetched_through_the_tunnel(virtual: Daemon, http: aiohttp.ClientSession) -> None:
    virtual.out("file", "write", "one", "/workspace/page.html", stdin=b"made inside")
    left = json.loads(virtual.out("exec", "-d", "--json", "one", "--", "python3", "-c", WEB_SERVER))
    with anyio.fail_after(60):
        while True:
            async with http.get("/sandboxes/one/proxy/7777/page.html") as response:
                if response.status == 200:
                    assert await response.read() == b"made inside"
                    assert response.headers["Content-Type"] == "text/html"
                    break
                assert response.status == 502
            await anyio.sleep(0.2)
    async with http.get("/sandboxes/one/proxy/7777/none.html") as response:
        assert response.status == 404
    virtual.out("exec", "one", "--", "kill", str(left["pid"]))


def test_a_terminal_opens(virtual: Daemon) -> None:
    import sys

    command = (sys.executable, "-m", "bhatti", "shell", "one")
    with screen(*command, env=virtual.env, cwd="/") as (person, process):
        person.wait_for(b"lohar@one")
        person.type(b"echo $((6*7)); stty size\r")
        person.wait_for(b"42")
        person.wait_for(b"24 80")
        person.type(b"exit 4\r")
        assert process.wait(60) == 4


FULL_SCREEN = """
import curses
def main(screen):
    keys = 0
    while True:
        screen.erase()
        screen.addstr(0, 0, f"{keys} keys, {curses.LINES} by {curses.COLS}: grüße")
        screen.refresh()
        if (key := screen.getch()) == ord("q"):
            return
        keys += key != curses.KEY_RESIZE
        curses.update_lines_cols()
curses.wrapper(main)
"""


def test_a_full_screen_program_outlives_the_daemon_and_the_sleep_of_its_machine(virtual: Daemon) -> None:
    virtual.out("create", "artist", "--memory", "256")
    command = ("shell", "artist", "--", "python3", "-c", FULL_SCREEN)
    with bhatti_in_window(virtual.env, *command) as person:
        person.wait_for("0 keys, 24 by 80: grüße")
        person.resize(100, 30)
        person.wait_for("0 keys, 30 by 100: grüße")
        virtual.stop(signal.SIGKILL)
        person.type("a")
        virtual.start()
        person.wait_for("1 keys, 30 by 100: grüße")
        virtual.out("stop", "artist")
        person.wait_for("type to wake it")
        person.type("b")
        # and what was told meanwhile is drawn over
        person.wait(lambda shown: "2 keys, 30 by 100: grüße" in shown and "wake" not in shown)
        person.type("q")
        assert person.exit_code() == 0
    virtual.out("rm", "artist")


def test_many_commands_at_once_do_not_meet(virtual: Daemon) -> None:
    processes = [virtual.popen("exec", "-n", "one", "--", "echo", str(number), stdout=-1) for number in range(8)]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{n}\n".encode() for n in range(8)]


async def test_two_starts_at_once_are_one_and_a_call_during_a_stop_is_answered(
    virtual: Daemon, http: aiohttp.ClientSession
) -> None:
    outcomes: list[str] = []

    async def post(path: str) -> None:
        async with http.post(f"/sandboxes/one/{path}", json={"cmd": ["true"]} if path == "exec" else None) as response:
            answer = await response.json()
            outcomes.append(f"{path} {answer.get('code', response.status)}")

    async with anyio.create_task_group() as tasks:
        for path in ("stop", "exec", "exec"):
            tasks.start_soon(post, path)
    # One that was under way when the order to stop came is told that its connection is lost, and goes on inside.
    assert len(outcomes) == 3
    assert "stop 200" in outcomes
    assert set(outcomes) <= {"stop 200", "exec 200", "exec connection-lost"}
    outcomes.clear()
    await post("stop")  # a call that came late has woken it
    outcomes.clear()
    async with anyio.create_task_group() as tasks:
        for path in ("start", "start"):
            tasks.start_soon(post, path)
    assert "start 200" in outcomes
    assert set(outcomes) <= {"start 200", "start busy", "start illegal-transition"}
    assert outcomes.count("start 200") == 1


async def test_ten_created_at_once_all_answer_as_themselves(virtual: Daemon, http: aiohttp.ClientSession) -> None:
    deadline = time.monotonic() + 120
    while not list(virtual.directory.glob("golden/*/snapshot.json")):
        assert time.monotonic() < deadline
        await anyio.sleep(0.1)  # nothing tells when it is there
    names = [f"many-{number}" for number in range(10)]
    said: dict[str, str] = {}

    async def make(name: str) -> None:
        async with http.post("/sandboxes", json={"name": name, "memory_mb": 256}) as response:
            assert response.status == 201, await response.text()
            made = await response.json()
        async with http.post(f"/sandboxes/{name}/exec", json={"cmd": ["hostname"]}) as response:
            said[(await response.json())["stdout"].strip()] = made["ip"]

    try:
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(make, name)
        assert sorted(said) == names
        assert len(set(said.values())) == 10
    finally:
        for name in names:
            async with http.delete(f"/sandboxes/{name}") as response:
                assert response.status in (200, 204, 404)


def test_the_list_of_bad_input(virtual: Daemon) -> None:
    for arguments, expected in (
        (["create", "one", "--json"], (5, "name-taken")),
        (["create", "two", "--memory", "99999999", "--json"], (2, "bad-memory")),
        (["create", "two", "--image", "none", "--json"], (4, "image-not-found")),
        (["exec", "--json", "one", "--", "no-such-command"], (1, "command-not-found")),
        (["exec", "--json", "one", "--cwd", "/none", "--", "true"], (4, "no-such-file")),
        (["file", "read", "one", "/root/x", "--json"], (4, "no-such-file")),
        (["image", "rm", "base", "--json"], (5, "image-in-use")),
    ):
        assert error_of(virtual.bhatti(*arguments)) == expected, arguments
    assert [found["name"] for found in json.loads(virtual.out("ls", "--json"))] == ["one"]
    assert len(virtual.machines("sandboxes")) == 1


def test_a_throw_away_machine_leaves_nothing(virtual: Daemon) -> None:
    done = virtual.bhatti("run", "--memory", "256", "--", "sh", "-c", "cat; exit 6", stdin=b"typed")
    assert (done.returncode, done.stdout) == (6, b"typed")
    assert len(virtual.machines("sandboxes")) == 1


def test_machines_outlive_the_daemon_and_are_found_again(virtual: Daemon) -> None:
    pid = json.loads(virtual.out("inspect", "one", "--json"))["engine_meta"]["pid"]
    virtual.out("exec", "one", "--", "sh", "-c", "echo kept > /tmp/kept")
    virtual.stop()
    os.kill(int(pid), 0)
    virtual.start()
    assert json.loads(virtual.out("inspect", "one", "--json"))["engine_meta"]["pid"] == pid
    assert virtual.out("exec", "one", "--", "cat", "/tmp/kept") == b"kept\n"


def test_a_sandbox_sleeps_and_wakes_with_its_processes(virtual: Daemon) -> None:
    virtual.out("create", "sleeper", "--memory", "256")
    virtual.out("exec", "sleeper", "--", "sh", "-c", "echo in memory > /dev/shm/kept; sleep 1000 & echo $! > /tmp/pid")
    pid = json.loads(virtual.out("inspect", "sleeper", "--json"))["engine_meta"]["pid"]
    assert virtual.out("stop", "sleeper") == b"stopped\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    shown = json.loads(virtual.out("inspect", "sleeper", "--json"))
    assert (shown["status"], shown["thermal"]) == ("stopped", "cold")
    assert error_of(virtual.bhatti("stop", "--json", "sleeper")) == (5, "illegal-transition")
    # Nobody starts it: the command does.
    assert virtual.out("exec", "sleeper", "--", "cat", "/dev/shm/kept") == b"in memory\n"
    virtual.out("exec", "sleeper", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)")
    virtual.out("stop", "sleeper")
    assert virtual.out("start", "sleeper").startswith(b"restored")
    virtual.out("rm", "sleeper")


def test_an_idle_sandbox_is_warm_then_cold_and_any_command_finds_it_where_it_was(virtual: Daemon) -> None:
    virtual.out("create", "idler", "--memory", "256", "--warm-after", "1", "--cold-after", "never")
    virtual.out("exec", "idler", "--", "sh", "-c", "sleep 1000 & echo $! > /dev/shm/pid")
    becomes(virtual, "idler", "warm", why="idle for")
    assert virtual.out("exec", "idler", "--", "sh", "-c", "kill -0 $(cat /dev/shm/pid) && echo there") == b"there\n"
    virtual.out("edit", "idler", "--cold-after", "2")
    becomes(virtual, "idler", "cold", why="idle for")
    assert virtual.out("exec", "idler", "--", "sh", "-c", "kill -0 $(cat /dev/shm/pid) && echo there") == b"there\n"
    assert json.loads(virtual.out("inspect", "idler", "--json"))["how"] == "restored"
    virtual.out("rm", "idler")


def becomes(virtual: Daemon, name: str, temperature: str, *, why: str) -> None:
    """Wait until a sandbox is as warm as that, and says why, which it does a moment later. Somebody has to look."""
    give_up = time.monotonic() + 60
    while True:
        shown = json.loads(virtual.out("inspect", name, "--json"))
        if shown["thermal"] == temperature and why in shown["thermal_reason"]:
            return
        assert time.monotonic() < give_up, shown["thermal_reason"]


ICE = "cd /sys/fs/cgroup && mkdir ice && echo 1 > ice/cgroup.procs && echo 1 > ice/cgroup.freeze"
"""Freezes the agent, whom nothing else stops: it is the first process of its machine."""


def test_a_frozen_agent_is_told_of_and_costs_nothing_that_is_on_the_disk(virtual: Daemon) -> None:
    virtual.out("create", "frozen", "--memory", "256", "--warm-after", "1")
    virtual.out("exec", "frozen", "--", "sh", "-c", "echo kept > kept && sync")
    virtual.bhatti("exec", "-d", "-u", "root", "frozen", "--", "sh", "-c", ICE)  # it may not come to answer this
    becomes(virtual, "frozen", "hot", why="the agent did not answer (")
    virtual.out("stop", "--no-memory", "frozen")
    assert virtual.out("exec", "frozen", "--", "cat", "kept") == b"kept\n"
    assert json.loads(virtual.out("inspect", "frozen", "--json"))["how"] == "disk-boot"
    virtual.out("rm", "frozen")


def test_a_machine_that_is_killed_tells_how_it_died(virtual: Daemon) -> None:
    made = json.loads(virtual.out("create", "doomed", "--memory", "256", "--json"))
    pid = int(made["engine_meta"]["pid"])
    descriptor = os.pidfd_open(pid)
    os.kill(pid, 9)
    asyncio.run(readable(descriptor))
    os.close(descriptor)
    shown = json.loads(virtual.out("inspect", "doomed", "--json"))
    assert (shown["status"], shown["thermal"]) == ("failed", "cold")
    assert shown["cause"]["detail"]
    assert error_of(virtual.bhatti("exec", "--json", "doomed", "--", "true")) == (5, "not-running")
    virtual.out("rm", "doomed")
    assert not (virtual.directory / "sandboxes" / made["id"]).exists()
    assert error_of(virtual.bhatti("exec", "--json", "doomed", "--", "true")) == (4, "sandbox-destroyed")


async def readable(descriptor: int) -> None:
    with anyio.fail_after(60):
        await anyio.wait_readable(descriptor)


def test_an_idle_daemon_is_small(virtual: Daemon) -> None:
    assert virtual.process is not None
    status = Path(f"/proc/{virtual.process.pid}/status").read_text()
    rss_kib = int(status.split("VmRSS:")[1].split()[0])
    assert rss_kib <= 80 * 1024


def holding(directory: Path, text: bytes) -> list[Path]:
    """Return the files with `text` in them. The holes of sparse ones, which are nearly all of a disk, are not read."""
    found = []
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            if path.is_file() and not path.is_symlink() and any(text in piece for piece in written(path)):
                found.append(path)
    return found


def written(path: Path) -> Iterator[bytes]:
    """Yield what there is of a file between its holes."""
    with path.open("rb") as file, contextlib.suppress(OSError):  # ENXIO: there is no more
        end = 0
        while True:
            begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            yield os.pread(file.fileno(), end - begin, begin)


def test_a_secret_is_in_the_machines_that_ask_and_in_no_golden_snapshot(virtual: Daemon) -> None:
    """As a variable and as a file of the user's alone, in a created machine and in a fork of it."""
    virtual.out("secret", "set", "TOKEN", stdin=b"s3cret-vALUE-of-the-tests")
    try:
        virtual.out("create", "keeper", "--memory", "256", "--secret", "TOKEN", "--secret", "TOKEN:/home/lohar/token")
        virtual.out("fork", "keeper", "heir")
        for name in ("keeper", "heir"):
            look = "printenv TOKEN; cat ~/token; stat -c ' %U %a' ~/token"
            said = virtual.out("exec", name, "--", "sh", "-c", look).decode()
            assert said == "s3cret-vALUE-of-the-tests\n" + "s3cret-vALUE-of-the-tests lohar 600\n"
        assert virtual.bhatti("exec", "one", "--", "printenv", "TOKEN").returncode == 1
        found = holding(virtual.directory, b"s3cret-vALUE-of-the-tests")
        held = [path.relative_to(virtual.directory).parts for path in found]
        assert {parts[0] for parts in held} == {"sandboxes"}  # and in nothing of golden, the store or the log
        homes = {virtual.directory / "sandboxes" / parts[1] for parts in held}
        assert "config.ext4" in {parts[2] for parts in held}
        assert [path for path in found if path.stat().st_mode & 0o077] == []
    finally:
        virtual.out("rm", "-f", "heir", "keeper")
        virtual.out("secret", "rm", "TOKEN")
    assert [home for home in homes if home.exists()] == []
