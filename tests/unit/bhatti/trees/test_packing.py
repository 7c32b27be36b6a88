import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from bhatti.trees.packing import pack
from bhatti.trees.tar import PIECE_BYTES
from bhatti.trees.unpacking import unpack


def found(path: Path, name: str = "") -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(str(path), name)))) as archive:
        return {member.name: member for member in archive}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "b" / "c").mkdir(parents=True)
    (root / "a").write_bytes(b"12345")
    (root / "a").chmod(0o640)
    (root / "b" / "big").write_bytes(os.urandom(PIECE_BYTES * 2 + 7))
    (root / "b" / "link").symlink_to("../a")
    (root / "b" / "twin").hardlink_to(root / "a")
    return root


def test_a_directory_is_packed_with_all_that_is_in_it(tree: Path) -> None:
    members = found(tree)
    assert list(members) == [".", "a", "b", "b/big", "b/c", "b/link", "b/twin"]
    assert (members["a"].mode, members["a"].size) == (0o640, 5)
    assert (members["b/link"].linkname, members["b/twin"].linkname) == ("../a", "a")
    assert members["b/twin"].islnk()


def test_it_can_have_a_name(tree: Path) -> None:
    assert list(found(tree, "x"))[:3] == ["x", "x/a", "x/b"]
    assert found(tree, "x")["x/b/twin"].linkname == "x/a"
    assert list(found(tree / "a")) == ["a"]
    assert list(found(tree / "b" / "link", "y")) == ["y"]


def test_pieces_are_large_and_bounded(tree: Path) -> None:
    sizes = [len(piece) for piece in pack(str(tree))]
    assert max(sizes) < 2 * PIECE_BYTES + 4096
    assert len(sizes) <= 4


def test_what_is_no_file_is_left_out_and_told(tree: Path, tmp_path: Path) -> None:
    before = list(found(tree))
    os.mkfifo(tree / "b" / "c" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tree)
        listener.bind("socket")
        assert list(found(tree)) == before
        told: list[bytes] = []
        archive = list(pack(str(tree), on_left_out=told.append))
    assert told == [b"socket: a socket", b"b/c/pipe: a named pipe"]
    heard: list[bytes] = []
    unpack(iter(archive), str(tmp_path / "there"), on_left_out=heard.append)
    assert heard == told
    # Nobody else's tar stumbles over it.
    listing = subprocess.run(["tar", "t"], input=b"".join(archive), capture_output=True, check=True)
    assert (len(listing.stdout.splitlines()), listing.stderr) == (len(before), b"")


def test_what_goes_away_or_shrinks_meanwhile_breaks_nothing(tree: Path) -> None:
    pieces = pack(str(tree))
    first = next(pieces)
    os.truncate(tree / "b" / "big", PIECE_BYTES // 2)
    (tree / "b" / "c").rmdir()
    (tree / "b" / "link").unlink()
    (tree / "b" / "twin").unlink()
    with tarfile.open(fileobj=io.BytesIO(first + b"".join(pieces))) as archive:
        names = archive.getnames()
        assert archive.getmember("b/big").size == PIECE_BYTES * 2 + 7
    assert "b/big" in names


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(pack(f"{tmp_path}/none"))
