import os
from pathlib import Path

import pytest

from bhatti.errors import BhattiError
from bhatti.secrets import keyfile
from bhatti.secrets.keys import Keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.key"


def refused(path: Path) -> str:
    with pytest.raises(BhattiError) as caught:
        keyfile.read(path)
    assert "AGE-SECRET" not in f"{caught.value}{caught.value.hint}"
    return caught.value.code


def test_what_is_written_is_its_owner_s_alone_and_read_again(path: Path) -> None:
    keys = Keys.generate()
    before = os.umask(0)
    try:
        keyfile.write(path, keys)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    read = keyfile.read(path)
    assert read is not None
    assert read.text() == keys.text()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"\n# none yet\n"])
def test_no_key_is_no_file(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.touch(0o600)
        path.write_bytes(content)
    assert keyfile.read(path) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610])
def test_a_file_that_others_may_touch_is_refused(path: Path, mode: int) -> None:
    keyfile.write(path, Keys.generate())
    path.chmod(mode)
    assert refused(path) == "secret-key-exposed"
    path.chmod(0o600)
    assert keyfile.read(path) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_file_of_somebody_else_is_refused(path: Path) -> None:
    keyfile.write(path, Keys.generate())
    os.chown(path, 65_534, -1)
    assert refused(path) == "secret-key-exposed"


def test_what_is_no_file_is_refused(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    keyfile.write(elsewhere, Keys.generate())
    path.symlink_to(elsewhere)
    assert refused(path) == "secret-key-unreadable"
    path.unlink()
    path.mkdir(0o700)
    assert refused(path) == "secret-key-unreadable"
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert refused(path) == "secret-key-unreadable"


def test_what_is_no_key_is_refused(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"\xff\x00 not a key")
    assert refused(path) == "secret-key-corrupt"


def test_a_draft_of_a_killed_daemon_is_in_nobody_s_way(path: Path) -> None:
    draft = path.with_name("secrets.key.new")
    draft.write_text("half")
    draft.chmod(0o644)
    keyfile.write(path, Keys.generate())
    assert keyfile.read(path) is not None
    assert not draft.exists()
