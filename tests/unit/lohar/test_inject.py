import os
import stat
from pathlib import Path

import pytest

from lohar.config import InjectedFile
from lohar.inject import InjectError, apply_files

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which needs root")


def test_files_appear_with_mode_and_owner_and_so_do_their_directories(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    files = [
        InjectedFile(path="/home/u/.ssh/authorized_keys", content=b"key\n", mode=0o600),
        InjectedFile(path="/run.sh", content=b"", mode=0o4755),
    ]
    apply_files(files, 1000, 1001, root=str(tmp_path))
    keys, script = tmp_path / "home/u/.ssh/authorized_keys", tmp_path / "run.sh"
    assert keys.read_bytes() == b"key\n"
    assert (stat.S_IMODE(keys.stat().st_mode), stat.S_IMODE(script.stat().st_mode)) == (0o600, 0o4755)
    for path in (keys, keys.parent, keys.parent.parent, script):
        assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1001)
    assert (tmp_path / "home").stat().st_uid == 0, "a directory that was there stays whose it was"


def test_an_existing_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as before:
        apply_files([InjectedFile(path="/a", content=b"new")], 0, 0, root=str(tmp_path))
        assert before.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InjectError, match=r"^cannot write the file /a: .+"):
        apply_files([InjectedFile(path="/a", content=b"new")], 0, 0, root=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "b").touch()
    with pytest.raises(InjectError, match="Not a directory"):
        apply_files([InjectedFile(path="/b/c", content=b"new")], 0, 0, root=str(tmp_path))
