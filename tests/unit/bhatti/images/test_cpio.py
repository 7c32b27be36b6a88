import stat
import subprocess
from pathlib import Path

import pytest

from bhatti.images.cpio import Entry, Kind, pack

ENTRIES = [
    Entry("bin", Kind.DIRECTORY),
    Entry("bin/tool", Kind.FILE, 0o750, b"#!/bin/sh\n"),
    Entry("bin/odd", Kind.FILE, 0o644, b"x" * 4097),
    Entry("bin/link", Kind.SYMLINK, 0o777, b"tool"),
    Entry("empty", Kind.FILE, 0o600),
    Entry("console", Kind.CHAR_DEVICE, 0o600, device=(5, 1)),
]


def test_equal_entries_give_equal_archives_padded_to_blocks() -> None:
    archive = pack(ENTRIES)
    assert archive == pack(list(ENTRIES))
    assert len(archive) % 512 == 0


def test_cpio_lists_every_member(tmp_path: Path) -> None:
    listed = subprocess.run(["busybox", "cpio", "-t"], input=pack(ENTRIES), capture_output=True, check=True)
    assert listed.stdout.decode().split() == [entry.path for entry in ENTRIES]


@pytest.mark.root
def test_cpio_unpacks_contents_modes_links_and_devices(tmp_path: Path) -> None:
    subprocess.run(["busybox", "cpio", "-id"], input=pack(ENTRIES), cwd=tmp_path, check=True)
    assert (tmp_path / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/odd").read_bytes() == b"x" * 4097
    assert stat.S_IMODE((tmp_path / "bin/tool").stat().st_mode) == 0o750
    assert (tmp_path / "bin/link").readlink() == Path("tool")
    console = (tmp_path / "console").stat()
    assert stat.S_ISCHR(console.st_mode)
    assert console.st_rdev == (5 << 8 | 1)


def test_an_archive_of_nothing_is_an_archive() -> None:
    done = subprocess.run(["busybox", "cpio", "-t"], input=pack([]), capture_output=True, check=True)
    assert done.stdout == b""
