import gzip
import os
import tarfile
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.making import archive, directory, file, hard_link, item, symlink

from bhatti.errors import CorruptData, InvalidRequest, LimitExceeded
from bhatti.images.oci import files
from bhatti.images.oci.documents import MAX_DOCUMENT_BYTES
from bhatti.images.oci.files import ArchiveFiles, DirectoryFiles, no_such_file, open_regular


def saved(path: Path, *items: tuple[tarfile.TarInfo, bytes]) -> Path:
    path.write_bytes(archive(items))
    return path


def test_members_are_read_in_place_and_independently(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tar", directory("d"), file("d/one", b"first"), file("./two", b"second"))
    opened = ArchiveFiles(path, tmp_path)
    with opened.open("d/one") as one, opened.open("two") as two:
        opened.close()
        assert (one.read(2), two.read(), one.read(), one.seek(0)) == (b"fi", b"second", b"rst", 0)
    assert list(tmp_path.iterdir()) == [path]


def test_sizes_and_missing_members(tmp_path: Path) -> None:
    opened = ArchiveFiles(saved(tmp_path / "a.tar", file("x", b"12345")), tmp_path)
    assert (opened.size("x"), opened.read("x")) == (5, b"12345")
    for ask in (opened.size, opened.read, opened.open):
        with pytest.raises(FileNotFoundError):
            ask("y")
    opened.close()


def test_links_in_an_archive_lead_to_its_members_alone(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.tar",
        file("b/layer.tar", b"layer"),
        symlink("a/layer.tar", "../b/layer.tar"),
        hard_link("c", "b/layer.tar"),
        symlink("twice", "a/layer.tar"),
        symlink("out", "/etc/passwd"),
        symlink("up", "../../../../etc/passwd"),
        symlink("loop", "loop"),
        symlink("replaced", "c"),
        file("replaced", b"file"),
    )
    opened = ArchiveFiles(path, tmp_path)
    assert [opened.read(name) for name in ("a/layer.tar", "c", "twice", "replaced")] == [b"layer"] * 3 + [b"file"]
    for name in ("out", "up", "loop"):
        with pytest.raises(FileNotFoundError):
            opened.read(name)
    opened.close()


def test_a_compressed_archive_is_unfolded_into_a_nameless_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(archive([file("x", b"content")])))
    workspace = tmp_path / "workspace"
    opened = ArchiveFiles(path, workspace)
    assert opened.read("x") == b"content"
    assert list(workspace.iterdir()) == []
    opened.close()


def test_a_compressed_archive_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ARCHIVE_BYTES", 1 << 20)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(5 << 20)))
    with pytest.raises(LimitExceeded):
        ArchiveFiles(path, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"no archive" * 100, gzip.compress(b"no archive" * 100), gzip.compress(archive([file("x", b"y")]))[:-20],
     archive([file("x", b"y" * 2000)])[:1000], archive([item("dev", tarfile.CHRTYPE)])],
)  # fmt: skip
def test_what_is_no_archive_of_images_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(CorruptData, match=r"a\.tar is no archive of an image, or damaged") as caught:
        ArchiveFiles(path, tmp_path)
    assert caught.value.code == "bad-archive"


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_MEMBERS", 3)
    path = saved(tmp_path / "a.tar", *[file(f"f{i}") for i in range(4)])
    with pytest.raises(CorruptData, match="more than 3 members"):
        ArchiveFiles(path, tmp_path)


def test_a_document_is_read_only_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(CorruptData, match="no document of an image"):
        DirectoryFiles(tmp_path).read("big")


def test_files_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_bytes(b"content")
    found = DirectoryFiles(tmp_path)
    assert (found.size("d/x"), found.read("d/x")) == (7, b"content")
    with pytest.raises(FileNotFoundError):
        found.open("y")
    found.close()


def test_what_could_block_or_never_end_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidRequest, match="is not a regular file"):
            open_regular(path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidRequest, match="cannot read"):
        open_regular(tmp_path / "loop")


def test_a_missing_file_is_an_error_with_a_code() -> None:
    assert no_such_file(Path("/x")).code == "no-such-file"
