import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.daemons import Daemon

from bhatti.cli.copying import copied, described, is_directory
from bhatti.errors import BhattiError, Conflict, InvalidRequest, NotFound
from bhatti.operations import table


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory of this machine; sandboxes of this engine have the same paths."""
    root = tmp_path / "here" / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o750)
    (root / "link").symlink_to("sub/run")
    (tmp_path / "there").mkdir()
    return tmp_path


def below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


TREE = ["link", "sub", "sub/run"]


def test_a_directory_goes_and_comes_back(served: Daemon, here: Path) -> None:
    with served.client() as client:
        gone = copied(client, f"{here}/here/tree", f"one:{here}/there", quiet=True)
        assert gone.target == f"one:{here}/there/tree"
        assert gone.size_bytes > 2048
        assert below(here / "there" / "tree") == TREE
        copied(client, f"{here}/here/tree/.", f"one:{here}/there/new", quiet=True)
        assert below(here / "there" / "new") == TREE
        back = copied(client, f"one:{here}/there/tree", f"{here}/back", quiet=True)
        copied(client, f"one:{here}/there/tree/", f"{here}/back", quiet=True)
    assert back.target == f"{here}/back"
    assert below(here / "back") == sorted([*TREE, "tree", *(f"tree/{name}" for name in TREE)])
    assert (here / "back" / "sub" / "run").stat().st_mode & 0o777 == 0o750
    assert (here / "back" / "link").readlink() == Path("sub/run")


def test_relative_paths_of_a_sandbox_begin_where_its_commands_run(served: Daemon, here: Path) -> None:
    home = Path(served.out("exec", "one", "--", "pwd").decode().strip())
    with served.client() as client:
        assert copied(client, f"{here}/here/tree", "one:").target == f"one:{home}/tree"
        assert copied(client, f"{here}/here/tree/sub/run", "one:tree/ran").target == f"one:{home}/tree/ran"
        assert below(home / "tree") == sorted([*TREE, "ran"])
        copied(client, "one:tree/.", f"{here}/back")
        assert below(here / "back") == sorted([*TREE, "ran"])
        (here / "all").mkdir()
        copied(client, "one:.", f"{here}/all")
        copied(client, "one:", f"{here}/all")
        client.ask(table.FILE_REMOVE, {"path": f"{home}/tree", "recursive": "true"}, id="one")
    for copy in (here / "all", here / "all" / home.name):  # what is in it, and itself
        assert (copy / "tree" / "ran").read_bytes() == b"#!/bin/sh\n"


def test_a_file_goes_and_comes_back(served: Daemon, here: Path) -> None:
    data = os.urandom(3_000_000)
    (here / "file").write_bytes(data)
    (here / "file").chmod(0o700)
    with served.client() as client:
        assert copied(client, f"{here}/file", f"one:{here}/there/").target == f"one:{here}/there/file"
        assert (here / "there" / "file").stat().st_mode & 0o777 == 0o700
        done = copied(client, f"one:{here}/there/file", f"{here}/back")
        assert (done.size_bytes, done.target) == (len(data), f"{here}/back")
        copied(client, f"one:{here}/there/file", f"{here}/there/file")
    assert (here / "back").read_bytes() == data
    assert (here / "back").stat().st_mode & 0o777 == 0o700
    assert below(here / "there") == ["file"]


@pytest.mark.parametrize(
    ("source", "target", "cls", "code"),
    [
        ("HERE/none", "one:HERE/there", NotFound, "no-such-file"),
        ("HERE/here", "one:HERE/none/x", NotFound, "no-such-file"),
        ("HERE/here/tree/sub/run", "one:HERE/none/", NotFound, "no-such-file"),
        ("HERE/here", "one:HERE/here/tree/link", Conflict, "not-a-directory"),
        ("HERE/here", "nobody:HERE/there", NotFound, "sandbox-not-found"),
        ("one:HERE/none", "HERE/there", NotFound, "no-such-file"),
        ("one:HERE/here", "HERE/none/x", NotFound, "no-such-file"),
        ("one:HERE/here", "HERE/here/tree/link", Conflict, "not-a-directory"),
        ("nobody:HERE/here", "HERE/there", NotFound, "sandbox-not-found"),
        ("one:HERE/here", "one:HERE/there", InvalidRequest, "bad-path"),
        ("HERE/here", "HERE/there", InvalidRequest, "bad-path"),
        ("/dev/null", "one:HERE/there", InvalidRequest, "bad-path"),
    ],
)
def test_what_cannot_be_copied_is_told(
    served: Daemon, here: Path, source: str, target: str, cls: type[BhattiError], code: str
) -> None:
    before = below(here)
    with served.client() as client, pytest.raises(cls) as caught:
        copied(client, source.replace("HERE", str(here)), target.replace("HERE", str(here)), quiet=True)
    assert caught.value.code == code
    assert below(here) == before


def test_where_nothing_can_be_written_is_told(served: Daemon, here: Path) -> None:
    with served.client() as client, pytest.raises(BhattiError, match="bhatti-tmp"):
        copied(client, f"one:{here}/here/tree/sub/run", "/proc/x", quiet=True)


def test_a_file_that_others_may_write_stays_so(served: Daemon, here: Path) -> None:
    (here / "file").write_text("ours")
    (here / "file").chmod(0o666)
    with served.client() as client:
        assert copied(client, f"{here}/file", f"one:{here}/there/new").target == f"one:{here}/there/new"
    assert (here / "there" / "new").read_text() == "ours"
    assert (here / "there" / "new").stat().st_mode & 0o777 == 0o666


def test_what_is_not_copied_is_told_in_both_directions(served: Daemon, here: Path) -> None:
    os.mkfifo(here / "here" / "tree" / "sub" / "pipe")
    for source, target in ((f"{here}/here/tree", f"one:{here}/there"), (f"one:{here}/here/tree", f"{here}/back")):
        done = served.bhatti("file", "cp", source, target)
        assert (done.returncode, done.stderr) == (0, b"left out: sub/pipe: a named pipe\n")
        done = served.bhatti("file", "cp", "--json", source, target)
        assert (json.loads(done.stdout)["left_out"], done.stderr) == (["sub/pipe: a named pipe"], b"")
    assert below(here / "there" / "tree") == TREE
    assert below(here / "back" / "tree") == TREE


def test_streams_are_archives(served: Daemon, here: Path) -> None:
    packed = served.out("file", "cp", f"one:{here}/here/tree", "-")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames() == ["tree", "tree/link", "tree/sub", "tree/sub/run"]
    assert served.bhatti("file", "cp", "-", f"one:{here}/there", stdin=packed).returncode == 0
    assert below(here / "there" / "tree") == TREE
    assert served.bhatti("file", "cp", "-", f"one:{here}/none", stdin=packed).returncode == 4
    assert served.bhatti("file", "cp", "-", f"one:{here}/there", stdin=b"x" * 5000).returncode == 2


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_who_is_interrupted_leaves_no_half_file(served: Daemon, here: Path) -> None:
    with tarfile.open(here / "tar", "w") as archive:
        info = tarfile.TarInfo("file")
        info.size = 10_000_000
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    sending = served.popen("file", "cp", "-", f"one:{here}/there", stdin=-1)
    assert sending.stdin is not None
    sending.stdin.write((here / "tar").read_bytes()[:5_000_000])
    sending.stdin.flush()
    until(lambda: bool(below(here / "there")))
    sending.send_signal(signal.SIGINT)
    assert sending.wait(60) == 130
    sending.stdin.close()
    until(lambda: not below(here / "there"))


def test_what_is_there_is_described(served: Daemon, here: Path) -> None:
    with served.client() as client:
        assert described(client, "one", f"{here}/here/tree/").is_dir
        assert described(client, "one", f"{here}/here/tree/link").mode == "0750"
        assert is_directory(client, "one", f"{here}/none") is None
        with pytest.raises(NotFound) as caught:
            described(client, "one", f"{here}/none")
        assert caught.value.code == "no-such-file"
