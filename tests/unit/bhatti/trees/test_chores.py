import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bhatti.server.errands import program
from bhatti.trees import chores
from bhatti.trees.chores import FAILED, copy, make, move, remove


def chore(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Do a chore as a guest does it."""
    command = [sys.executable, "-I", "-S", "-B", *program(), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=cwd)


def test_an_archive_goes_out_and_comes_in(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_bytes(b"x" * 1_000_000)
    sent = chore("send", f"{tmp_path}/from", "")
    assert (sent.returncode, sent.stderr) == (0, b"")
    received = chore("receive", f"{tmp_path}/to", stdin=sent.stdout, cwd=tmp_path)
    assert (received.returncode, received.stdout, received.stderr) == (0, b"\n", b"")
    assert (tmp_path / "to" / "file").read_bytes() == b"x" * 1_000_000
    assert (tmp_path / "to").stat().st_uid == tmp_path.stat().st_uid


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["send", "/no/such", ""], b"", {"errno": 2, "what": "/no/such: No such file or directory"}),
        (["make", "/proc/x", "0755", ""], b"", {"errno": 2, "what": "/proc/x: No such file or directory"}),
        (["receive", "/tmp"], b"x" * 512, None),
    ],
)
def test_what_could_not_be_done_is_said(arguments: list[str], stdin: bytes, said: dict[str, object] | None) -> None:
    done = chore(*arguments, stdin=stdin)
    assert done.returncode == FAILED
    words = json.loads(done.stderr)
    assert words == said if said is not None else "no tar archive" in words["refused"]


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "WORKPLACE", (os.getuid(), os.getgid()))


def test_directories_are_made(tmp_path: Path) -> None:
    make(f"{tmp_path}/a/b", "0750", "parents")
    make(f"{tmp_path}/a/b", "0750", "parents")
    make(f"{tmp_path}/c", "0700", "")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a/b", "c")] == [0o750, 0o700]
    with pytest.raises(FileExistsError):
        make(f"{tmp_path}/c", "0700", "")


def test_things_are_removed_and_links_alone(tmp_path: Path) -> None:
    (tmp_path / "full" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("full")
    remove(f"{tmp_path}/link", "recursive")
    with pytest.raises(OSError, match="not empty"):
        remove(f"{tmp_path}/full", "")
    remove(f"{tmp_path}/full/sub", "")
    remove(f"{tmp_path}/full", "recursive")
    assert list(tmp_path.iterdir()) == []


def test_a_file_replaces_a_file_and_makes_its_directories(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    move(f"{tmp_path}/b", f"{tmp_path}/x/y/z")
    assert (tmp_path / "x" / "y" / "z").read_text() == "new"
    with pytest.raises(FileNotFoundError):
        move(f"{tmp_path}/none", f"{tmp_path}/p/q")
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        move(f"{tmp_path}/x/y/z", f"{tmp_path}/d")
    assert not (tmp_path / "p").exists()


def test_what_moves_to_another_file_system_is_copied(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    target = other / f"bhatti-{os.getpid()}"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("content")
    (tmp_path / "d" / "link").symlink_to("file")
    move(f"{tmp_path}/d", str(target))
    try:
        assert (target / "link").read_text() == "content"
        assert not (tmp_path / "d").exists()
        move(str(target / "link"), f"{tmp_path}/link")
        assert (tmp_path / "link").readlink() == Path("file")
    finally:
        remove(str(target), "recursive")


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "taken" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="itself"):
        copy(f"{tmp_path}/d", f"{tmp_path}/d/sub/d")
    with pytest.raises(OSError, match="not empty"):
        copy(f"{tmp_path}/d", f"{tmp_path}/taken")
    copy(f"{tmp_path}/d", f"{tmp_path}/e")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "d", "d/sub", "e", "e/sub", "taken", "taken/full",
    ]  # fmt: skip
