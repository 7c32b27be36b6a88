import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bhatti.errors import BhattiError, Conflict, NotFound, OutOfSpace, Unavailable
from bhatti.sdk.transfer import There, on_this_machine, packed, packed_by_a_stranger, parsed, pieces_of, placed
from bhatti.trees.tar import Refused


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("one:/x", There("one", "/x")),
        ("one:x:y", There("one", "x:y")),
        ("one:", There("one", "")),
        ("x", "x"),
        ("./a:b", "./a:b"),
        ("/a:b", "/a:b"),
        ("..:b", "..:b"),
        ("-", "-"),
    ],
)
def test_a_name_before_a_colon_is_a_sandbox(text: str, meant: There | str) -> None:
    assert parsed(text) == meant


@pytest.mark.parametrize(
    ("source", "is_dir", "target", "target_is_dir", "place"),
    [
        ("a/file", False, "/t", None, "/t"),
        ("a/file", False, "/t", False, "/t"),
        ("a/file", False, "/t", True, "/t/file"),
        ("a/file", False, "/t/", True, "/t/file"),
        ("a/dir", True, "/t", None, "/t"),
        ("a/dir/", True, "/t/", None, "/t"),
        ("a/dir", True, "/t", True, "/t/dir"),
        ("a/dir/", True, "/t", True, "/t/dir"),
        ("a/dir/.", True, "/t", True, "/t"),
        ("a/dir/.", True, "/t", None, "/t"),
        (".", True, "/t", True, "/t"),
        ("/", True, "t", True, "t"),
        ("a/file", False, "/t/", None, NotFound),
        ("a/file", False, "/t/", False, Conflict),
        ("a/dir", True, "/t", False, Conflict),
    ],
)
def test_copies_go_where_cp_puts_them(
    source: str, is_dir: bool, target: str, target_is_dir: bool | None, place: str | type[BhattiError]
) -> None:
    if isinstance(place, str):
        assert placed(source, target, is_dir=is_dir, target_is_dir=target_is_dir) == place
        return
    with pytest.raises(place):
        placed(source, target, is_dir=is_dir, target_is_dir=target_is_dir)


@pytest.mark.parametrize(
    ("number", "cls"),
    [
        (errno.ENOENT, NotFound),
        (errno.ENOSPC, OutOfSpace),
        (errno.ENOTDIR, Conflict),
        (errno.EACCES, Unavailable),
    ],
)
def test_errors_of_this_machine_are_ours(number: int, cls: type[BhattiError]) -> None:
    with pytest.raises(cls, match="/x: "), on_this_machine():
        raise OSError(number, os.strerror(number), "/x")
    with pytest.raises(cls), on_this_machine():
        raise OSError(number, os.strerror(number))


def test_an_archive_that_is_not_taken_is_told() -> None:
    with pytest.raises(Unavailable) as caught, packed_by_a_stranger():
        raise Refused("../x leads out")
    assert caught.value.code == "bad-archive"


def test_what_is_packed_raises_our_errors(tmp_path: Path) -> None:
    assert b"".join(packed(str(tmp_path), "x")).startswith(b"x/")
    with pytest.raises(NotFound):
        next(packed(f"{tmp_path}/none"))


def test_a_file_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)

    def sent(size: int) -> Iterator[bytes]:
        with (tmp_path / "file").open("rb", buffering=0) as file:
            yield from pieces_of(file.fileno(), size)

    assert b"".join(sent(4)) == b"xxxx"
    with pytest.raises(EOFError):
        list(sent(11))
