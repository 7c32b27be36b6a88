import os
from pathlib import Path

import pytest

from bhatti.engines.qemu.copying import copy_sparse

PIECE = os.urandom(100_000)


@pytest.mark.parametrize("places", [[], [0], [3 << 20], [0, 5 << 20, 9 << 20], [(10 << 20) - len(PIECE)]])
def test_a_copy_has_the_same_content_and_the_same_holes(tmp_path: Path, places: list[int]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(10 << 20)
        for place in places:
            file.seek(place)
            file.write(PIECE)
    copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 <= len(places) * (len(PIECE) + 16384)
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old and longer")
    copy_sparse(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_source_that_is_not_there_leaves_no_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_sparse(tmp_path / "nothing", tmp_path / "target")
    assert not (tmp_path / "target").exists()
