import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import rewrite

from bhatti.errors import CorruptData, EngineFailure, OutOfSpace
from bhatti.images.artefacts import (
    Artefact,
    ArtefactStore,
    file_sha256,
    input_key,
    silent,
    writable,
)

KIND, RECIPE, INPUTS = "kernel", 3, {"package": "1.0"}


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "images")


def make(store: ArtefactStore, content: bytes = b"content", **inputs: str) -> Artefact:
    with store.locked(silent), store.staging() as work:
        files = work / "files"
        (files / "deep").mkdir(parents=True)
        (files / "vmlinux").write_bytes(content)
        (files / "vmlinux").chmod(0o600)
        (files / "deep/module").write_bytes(b"module")
        return store.commit(files, KIND, RECIPE, inputs or INPUTS, {"release": "6.1"})


def test_an_artefact_exists_when_it_is_complete(store: ArtefactStore) -> None:
    made = make(store)
    found = store.find_intact(KIND, input_key(RECIPE, INPUTS), RECIPE)
    assert found == made
    assert found.checked("vmlinux").read_bytes() == b"content"
    assert set(found.manifest.files) == {"vmlinux", "deep/module"}
    assert found.sha256("vmlinux") == file_sha256(found.directory / "vmlinux")
    assert found.manifest.details == {"release": "6.1"}
    assert {stat.S_IMODE((found.directory / name).stat().st_mode) for name in found.manifest.files} == {0o644}
    found.verify()
    assert store.all() == [made]


def test_the_key_follows_recipe_and_inputs_and_not_their_order() -> None:
    assert input_key(1, {"a": "1", "b": "2"}) == input_key(1, {"b": "2", "a": "1"})
    assert len({input_key(1, {"a": "1"}), input_key(2, {"a": "1"}), input_key(1, {"a": "2"}), input_key(1, {})}) == 4


def test_what_does_not_exist_or_has_no_manifest_is_not_found(store: ArtefactStore) -> None:
    assert store.find(KIND, "key") is None
    assert store.all() == []
    made = make(store)
    (made.directory / "manifest.json").write_text('{"kind":"kernel"')
    assert store.find(KIND, made.key) is None


def test_an_artefact_under_another_name_is_not_found(store: ArtefactStore) -> None:
    made = make(store)
    made.directory.rename(made.directory.with_name("other"))
    assert store.find(KIND, "other") is None


def test_an_artefact_of_an_older_recipe_is_not_taken_for_a_new_one(store: ArtefactStore) -> None:
    made = make(store)
    assert store.find_intact(KIND, made.key, RECIPE + 1) is None


def test_a_missing_a_shorter_and_a_changed_file_are_found_at_once(store: ArtefactStore) -> None:
    made = make(store)
    path = made.directory / "vmlinux"
    path.write_bytes(b"CONTENT")
    with pytest.raises(CorruptData, match="contents have changed") as caught:
        made.checked("vmlinux")
    assert caught.value.code == "image-corrupt"
    assert "bhatti image build" in (caught.value.hint or "")
    path.write_bytes(b"short")
    with pytest.raises(CorruptData, match="has 5 bytes and should have 7"):
        made.checked("vmlinux")
    path.unlink()
    with pytest.raises(CorruptData, match="No such file"):
        made.checked("vmlinux")
    assert store.find_intact(KIND, made.key, RECIPE) is None


def test_a_copy_with_new_times_is_as_good_as_the_original(store: ArtefactStore) -> None:
    made = make(store)
    os.utime(made.directory / "vmlinux")
    assert made.checked("vmlinux").exists()


def test_a_flipped_bit_under_the_old_time_is_found_by_verifying(store: ArtefactStore) -> None:
    made = make(store)

    def flip(content: bytearray) -> None:
        content[0] ^= 1

    rewrite(made.directory / "vmlinux", flip)
    made.checked("vmlinux")
    with pytest.raises(CorruptData, match="contents have changed"):
        made.verify()


def test_a_damaged_artefact_is_replaced(store: ArtefactStore) -> None:
    made = make(store)
    (made.directory / "vmlinux").write_bytes(b"x")
    again = make(store)
    assert again.key == made.key
    again.verify()
    assert [path.name for path in (store.directory / "artefacts" / KIND).iterdir()] == [made.key]


def test_a_removed_artefact_is_gone(store: ArtefactStore) -> None:
    made, other = make(store), make(store, package="2.0")
    with store.locked(silent):
        store.remove(made)
    assert store.all() == [other]
    assert not made.directory.exists()


def test_leaving_the_lock_and_staging_leaves_nothing(store: ArtefactStore) -> None:
    def fail() -> None:
        with store.locked(silent), store.staging() as work:
            (work / "half").write_text("made")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sorted(path.name for path in store.directory.iterdir()) == ["lock"]


def test_a_second_builder_waits_and_says_so(store: ArtefactStore) -> None:
    events: list[tuple[str, int, int]] = []
    waiting, inside = threading.Event(), threading.Event()

    def second() -> None:
        def report(stage: str, done: int, total: int) -> None:
            events.append((stage, done, total))
            waiting.set()

        with store.locked(report):
            inside.set()

    thread = threading.Thread(target=second)
    with store.locked(silent):
        thread.start()
        assert waiting.wait(60)
        assert not inside.is_set()
    thread.join(10)
    assert inside.is_set()
    assert events == [("waiting for another build", 0, 1), ("waiting for another build", 1, 1)]


DYING = """
import os, signal, sys
from pathlib import Path
from bhatti.images import artefacts
store = artefacts.ArtefactStore(Path(sys.argv[1]))
moment = sys.argv[2]
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
with store.locked(artefacts.silent), store.staging() as work:
    files = work / "files"
    files.mkdir()
    (files / "vmlinux").write_bytes(b"content")
    if moment == "staging":
        die()
    if moment == "digest":
        artefacts.file_sha256 = die
    if moment == "manifest":
        artefacts.write_durably = die
    if moment == "rename":
        Path.rename = die
    if moment == "sync":
        artefacts.sync_directory = die
    store.commit(files, "kernel", 3, {"package": "1.0"})
"""


@pytest.mark.parametrize("moment", ["staging", "digest", "manifest", "rename", "sync"])
def test_a_builder_killed_at_any_point_leaves_a_whole_artefact_or_none(store: ArtefactStore, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, store.directory, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    for artefact in store.all():
        artefact.verify()
    made = make(store)
    made.verify()
    assert store.all() == [made]
    assert not (store.directory / "staging").exists()


@pytest.mark.root
def test_sweeping_stops_at_what_is_mounted_there(store: ArtefactStore) -> None:
    mounted = store.directory / "staging/dead/root/proc"
    mounted.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", mounted], check=True)
    try:
        (mounted / "kept").touch()
        with store.locked(silent):
            pass
        assert (mounted / "kept").exists()
    finally:
        subprocess.run(["umount", mounted], check=True)
    with store.locked(silent):
        pass
    assert [path.name for path in store.directory.iterdir()] == ["lock"]


@pytest.mark.root
def test_a_full_disk_while_committing_is_told_and_nothing_is_left(tiny_disk: Path) -> None:
    store = ArtefactStore(tiny_disk / "images")
    with pytest.raises(OutOfSpace) as caught:
        make(store, bytes(2 << 20))
    assert caught.value.hint
    assert store.all() == []
    assert [path.name for path in store.directory.iterdir()] == ["lock"]


def test_a_directory_of_somebody_else_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure) as caught, writable(tmp_path):
        raise PermissionError(13, "Permission denied", "/var/lib/bhatti")
    assert caught.value.code == "not-permitted"
    assert "/var/lib/bhatti" in caught.value.message
    assert "BHATTI_STATE_DIR" in (caught.value.hint or "")
