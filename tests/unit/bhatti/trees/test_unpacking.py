import io
import os
import tarfile
from pathlib import Path

import pytest

from bhatti.trees.packing import pack
from bhatti.trees.tar import Refused
from bhatti.trees.unpacking import make_directory, unpack


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, link, len(content), mode
    return made, content


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def put(data: bytes, into: Path, size: int = 10_000) -> int:
    return unpack(iter([data[at : at + size] for at in range(0, len(data), size)]), str(into))


def below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def test_a_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d" / "sealed").mkdir(parents=True)
    (root / "d" / "run").write_bytes(os.urandom(300_000))
    (root / "d" / "run").chmod(0o751)
    os.utime(root / "d" / "run", (1_000_000, 1_000_000))
    (root / "d" / "sealed" / "file").touch()
    (root / "d" / "twin").hardlink_to(root / "d" / "run")
    (root / "link").symlink_to("/nowhere/at/all")
    (root / "d" / "sealed").chmod(0o555)
    assert unpack(pack(str(root)), f"{tmp_path}/new/to") == 7
    to = tmp_path / "new" / "to"
    assert below(to) == below(root)
    assert (to / "d" / "run").read_bytes() == (root / "d" / "run").read_bytes()
    assert (to / "d" / "run").stat().st_mtime == 1_000_000
    assert (to / "d" / "run").stat().st_mode & 0o7777 == 0o751
    assert (to / "d" / "sealed").stat().st_mode & 0o7777 == 0o555
    assert (to / "d" / "run").samefile(to / "d" / "twin")
    assert (to / "link").readlink() == Path("/nowhere/at/all")
    (root / "d" / "sealed").chmod(0o755)
    (to / "d" / "sealed").chmod(0o755)


def test_what_is_there_is_replaced_or_merged_and_keeps_the_outer_mode(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    tmp_path.chmod(0o700)
    data = archive(
        member(".", tarfile.DIRTYPE, mode=0o777),
        member("d/new", content=b"n"),
        member("link", content=b"no link any more"),
        member("file", tarfile.SYMTYPE, "d"),
    )
    assert put(data, tmp_path) == 4
    assert below(tmp_path) == ["d", "d/new", "d/old", "file", "link"]
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "link").read_text() == "no link any more"
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_no_right_of_a_program_travels(tmp_path: Path) -> None:
    put(archive(member("su", content=b"x", mode=0o6755)), tmp_path)
    assert (tmp_path / "su").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        [member("../out", content=b"x")],
        [member("a/../../out", content=b"x")],
        [member("/out", content=b"x")],
        [member("way", tarfile.SYMTYPE, ".."), member("way/out", content=b"x")],
        [member("way", tarfile.SYMTYPE, "."), member("way/out", content=b"x")],
        [member("way", tarfile.SYMTYPE, ".."), member("way/out", tarfile.DIRTYPE)],
        [member("twin", tarfile.LNKTYPE, "../secret")],
        [member("twin", tarfile.LNKTYPE, "/secret")],
        [member("way", tarfile.SYMTYPE, ".."), member("twin", tarfile.LNKTYPE, "way/secret")],
        [member("twin", tarfile.LNKTYPE, ".")],
        [member(".", tarfile.SYMTYPE, "..")],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("disk", tarfile.BLKTYPE)],
        [member("odd", b"Z")],
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    (tmp_path / "secret").write_text("unread")
    inside = tmp_path / "in"
    with pytest.raises(Refused):
        put(archive(*members), inside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "secret"]
    assert (tmp_path / "secret").read_text() == "unread"
    assert not [name for name in below(inside) if "way" not in name]


def test_a_link_that_was_there_before_is_not_followed_either(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "way").symlink_to(tmp_path)
    with pytest.raises(Refused, match="is a link"):
        put(archive(member("way/out", content=b"x")), tmp_path / "in")


def test_a_file_has_its_name_when_all_of_it_is_there(tmp_path: Path) -> None:
    data = archive(member("file", content=b"x" * 5000))
    for cut in (600, 512 + 4999):
        with pytest.raises(Refused, match="cut off"):
            put(data[:cut], tmp_path)
        assert below(tmp_path) == []


def test_errors_speak_of_the_entry(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        put(archive(member("taken", content=b"x")), tmp_path)
    assert caught.value.filename == "taken"
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        put(archive(member("file/x", content=b"x")), tmp_path)
    with pytest.raises(NotADirectoryError):
        put(b"", tmp_path / "file")
    assert below(tmp_path) == ["file", "taken"]


def test_what_follows_the_end_is_read_and_dropped(tmp_path: Path) -> None:
    pieces = iter([archive(member("a")), b"padding" * 100])
    assert unpack(pieces, str(tmp_path)) == 1
    assert next(pieces, None) is None


def test_an_owner_is_given_where_that_can_be(tmp_path: Path) -> None:
    mine = os.getuid(), os.getgid()
    data = archive(
        member("d/file", content=b"x"), member("d/e", tarfile.DIRTYPE), member("d/l", tarfile.SYMTYPE, "file")
    )
    unpack(iter([data]), f"{tmp_path}/new", owner=mine)
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path / "new").rglob("*")} == {mine}


def test_directories_are_made_as_needed(tmp_path: Path) -> None:
    assert make_directory(f"{tmp_path}/a/b/", (os.getuid(), os.getgid()), 0o700)
    assert not make_directory(f"{tmp_path}/a/b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileNotFoundError):
        make_directory("")
