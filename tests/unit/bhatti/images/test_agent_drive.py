import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import CorruptData, EngineFailure
from bhatti.images import agent_drive
from bhatti.images.agent_drive import (
    EXTENSIONS,
    FOREIGN_PATHS,
    interpreter,
    lay_out_runtime,
    lohar_digest,
    lohar_modules,
    lohar_source,
    make_agent_drive,
    pack_runtime,
    start_command,
    unpack_runtime,
)
from bhatti.images.artefacts import Artefact, file_sha256

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def tree(runtime: Artefact, tmp_path: Path) -> Path:
    unpack_runtime(runtime.checked("runtime.tar"), tmp_path / "tree")
    return tmp_path / "tree"


def run(root: Path, code: str, **environment: str) -> str:
    command = [*interpreter(root), "-I", "-S", "-B", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_drives_python_has_all_that_the_agent_may_import(tree: Path) -> None:
    names = (*EXTENSIONS, "array", "ctypes", "fcntl", "json", "pwd", "select", "selectors", "socket", "termios", "zlib")
    run(tree, f"import {', '.join(names)}")


def test_the_drives_python_uses_no_library_of_the_host(tree: Path) -> None:
    maps = run(tree, "import ctypes, socket; print(open('/proc/self/maps').read())")
    loaded = {line.split()[-1] for line in maps.splitlines() if ".so" in line or "/bin/" in line}
    assert loaded
    assert all(path.startswith(str(tree)) for path in loaded), loaded


def test_the_drives_python_obeys_neither_environment_nor_preload_file(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("raise SystemExit('site of the guest')")
    assert run(tree, "print(1)", PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere") == "1\n"
    for name in ("ld.so", "libc.so.6"):
        content = (tree / "lib" / name).read_bytes()
        assert not any(path in content for path in FOREIGN_PATHS)


def test_equal_runtimes_are_packed_into_equal_files(tree: Path, runtime: Artefact, tmp_path: Path) -> None:
    (tree / "run").unlink(missing_ok=True)
    pack_runtime(tree, tmp_path / "again.tar")
    assert file_sha256(tmp_path / "again.tar") == runtime.sha256("runtime.tar")


def test_there_are_no_sources_on_the_drive(tree: Path) -> None:
    assert list(tree.rglob("*.py")) == []
    assert list(tree.rglob("__pycache__")) == []


def test_the_drive_holds_lohar_and_its_start_command(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "agent.ext4"
    make_agent_drive(image, tree)
    python = min((tree / "lib").glob("python3.*")).name
    words = debugfs(image, "cat /run").splitlines()
    assert words == start_command()
    assert words[0] == "/run/bhatti/agent/lib/ld.so"
    listed = debugfs(image, f"ls /lib/{python}/lohar")
    assert "__main__.pyc" in listed
    assert " lohar.py" not in listed
    assert image.stat().st_blocks * 512 < 40 << 20


def test_a_directory_that_once_held_more_gives_the_same_drive(tree: Path, tmp_path: Path) -> None:
    make_agent_drive(tmp_path / "before.ext4", tree)
    files = [tree / "lib" / f"{number:0250}" for number in range(100)]
    for path in files:
        path.touch()
    for path in files:
        path.unlink()
    make_agent_drive(tmp_path / "after.ext4", tree)
    assert file_sha256(tmp_path / "before.ext4") == file_sha256(tmp_path / "after.ext4")


def test_the_umask_makes_no_difference(tree: Path, tmp_path: Path) -> None:
    digests = set()
    for umask in (0o022, 0o077):
        before = os.umask(umask)
        try:
            shutil.copytree(tree, tmp_path / f"{umask}")
            make_agent_drive(tmp_path / "agent.ext4", tmp_path / f"{umask}")
            (tmp_path / f"{umask}" / "run").unlink()
            pack_runtime(tmp_path / f"{umask}", tmp_path / "runtime.tar")
        finally:
            os.umask(before)
        digests.add((file_sha256(tmp_path / "agent.ext4"), file_sha256(tmp_path / "runtime.tar")))
    assert len(digests) == 1


def test_the_start_command_runs_lohar_on_the_host_as_it_would_in_a_guest(tree: Path, tmp_path: Path) -> None:
    make_agent_drive(tmp_path / "agent.ext4", tree)
    command = [word.replace(agent_drive.MOUNT_POINT, str(tree)) for word in start_command()]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert "neither PID 1 nor in test mode" in done.stderr


def test_lohar_with_a_module_that_the_drive_lacks_is_found_out_when_the_drive_is_made(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "lohar"
    shutil.copytree(lohar_source(), source)
    (source / "extra.py").write_text("import sqlite3\n")
    monkeypatch.setattr(agent_drive, "lohar_source", lambda: source)
    with pytest.raises(EngineFailure, match="sqlite3"):
        make_agent_drive(tmp_path / "agent.ext4", tree)
    assert not (tmp_path / "agent.ext4").exists()


def test_the_digest_follows_every_source_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "lohar"
    shutil.copytree(lohar_source(), source)
    monkeypatch.setattr(agent_drive, "lohar_source", lambda: source)
    before = lohar_digest()
    (source / "notes.txt").write_text("no code")
    os.utime(source / "__main__.py", (1, 1))
    assert lohar_digest() == before
    (source / "__main__.py").write_text("pass\n")
    changed = lohar_digest()
    (source / "__main__.py").rename(source / "renamed.py")
    assert len({before, changed, lohar_digest()}) == 3


def test_all_modules_of_lohar_are_known_by_name() -> None:
    assert {"lohar", "lohar.__main__", "lohar.boot", "lohar.wire", "lohar.wire.frames"} <= set(lohar_modules())


def test_packages_without_a_library_that_is_needed_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    with pytest.raises(CorruptData, match=r"do not contain ld-linux-x86-64\.so\.2"):
        lay_out_runtime(tmp_path / "packages", tmp_path / "runtime", "python3.11")
