import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import CorruptData, NotFound
from bhatti.images import agent_drive, guest_parts, initramfs
from bhatti.images.artefacts import ArtefactStore, silent
from bhatti.images.guest_parts import PartsBuilder, code_digest
from bhatti.images.packages import Apt

pytestmark = pytest.mark.timeout(600)

Events = list[tuple[str, int, int]]


@pytest.fixture
def builder(copied: Path) -> PartsBuilder:
    return PartsBuilder(copied, ArtefactStore(copied))


@pytest.fixture
def other_lohar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lohar whose sources differ from those that the images were built with."""
    source = tmp_path / "lohar"
    shutil.copytree(agent_drive.lohar_source(), source)
    (source / "news.py").write_text("TOLD = 7\n")
    monkeypatch.setattr(agent_drive, "lohar_source", lambda: source)
    return source


def ensure(directory: Path, builder: PartsBuilder, *, refresh: bool = False) -> Events:
    events: Events = []
    artefacts = ArtefactStore(directory)
    with artefacts.locked(silent) as lock, artefacts.staging() as work:
        builder.ensure(
            Apt(work / "apt", held_lock=lock),
            lock=lock,
            refresh=refresh,
            progress=lambda stage, done, total: events.append((stage, done, total)),
        )
    return events


def test_what_is_there_is_not_made_again_and_nothing_is_asked_of_the_network(
    copied: Path, builder: PartsBuilder
) -> None:
    before = builder.read_record()
    assert ensure(copied, builder) == []
    assert builder.read_record() == before


def test_the_kernel_brings_all_modules_that_any_guest_loads(builder: PartsBuilder) -> None:
    """Those of an older list are of another recipe: whoever adds a module raises `KERNEL_RECIPE`."""
    kernel = builder.current().kernel.directory
    assert {path.stem.replace("-", "_") for path in kernel.rglob("*.ko")} >= set(initramfs.MODULES)


def test_newer_sources_of_the_agent_are_on_the_drive_at_the_next_boot(
    copied: Path, builder: PartsBuilder, other_lohar: Path
) -> None:
    before = builder.read_record()
    assert before is not None
    parts = builder.current()
    after = builder.read_record()
    assert after is not None
    assert (after.kernel, after.runtime, after.initramfs) == (before.kernel, before.runtime, before.initramfs)
    assert after.agent != before.agent
    image = parts.agent.checked("agent.ext4")
    assert "news.pyc" in debugfs(image, *(f"ls /lib/python3.{minor}/lohar" for minor in range(11, 16)))
    assert builder.current().agent == parts.agent


def test_an_agent_that_cannot_be_built_leaves_the_one_that_works(builder: PartsBuilder, other_lohar: Path) -> None:
    before = builder.read_record()
    (other_lohar / "broken.py").write_text("def (:\n")
    assert builder.current().agent.key == (before.agent if before else "")
    assert builder.read_record() == before


def test_a_directory_that_cannot_be_written_is_used_as_it_is(
    copied: Path, builder: PartsBuilder, other_lohar: Path
) -> None:
    before = builder.read_record()
    subprocess.run(["mount", "--bind", copied, copied], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", copied], check=True)
    try:
        assert builder.current().agent.key == (before.agent if before else "")
    finally:
        subprocess.run(["umount", copied], check=True)


def test_without_any_build_there_is_nothing_to_boot(tmp_path: Path) -> None:
    builder = PartsBuilder(tmp_path, ArtefactStore(tmp_path))
    assert builder.referenced_keys() == set()
    with pytest.raises(NotFound) as caught:
        builder.current()
    assert caught.value.code == "image-not-found"
    assert "bhatti image build" in (caught.value.hint or "")


def test_a_damaged_record_is_like_none(copied: Path, builder: PartsBuilder) -> None:
    (copied / "guest.json").unlink()
    (copied / "guest.json").write_text("{")
    assert builder.read_record() is None


@pytest.mark.parametrize("kind", ["kernel", "initramfs", "agent"])
def test_a_part_that_is_gone_is_told(copied: Path, builder: PartsBuilder, kind: str) -> None:
    shutil.rmtree(copied / "artefacts" / kind)
    with pytest.raises(CorruptData) as caught:
        builder.current()
    assert caught.value.code == "image-corrupt"


def test_a_part_that_is_gone_when_newer_code_needs_it_is_told(
    copied: Path, builder: PartsBuilder, other_lohar: Path
) -> None:
    shutil.rmtree(copied / "artefacts/kernel")
    with pytest.raises(CorruptData):
        builder.current()


@pytest.mark.parametrize("kind", ["initramfs", "agent"])
def test_a_damaged_part_of_ours_is_made_again_without_the_network(
    copied: Path, builder: PartsBuilder, kind: str
) -> None:
    record = builder.read_record()
    assert record is not None
    directory = copied / "artefacts" / kind / str(getattr(record, kind))
    for path in directory.glob("*.*[!json]"):
        path.unlink()
        path.write_bytes(b"damaged")
    events = ensure(copied, builder)
    assert [stage for stage, _, _ in events if stage not in ("agent drive", "initramfs")] == []
    assert builder.read_record() == record
    found = ArtefactStore(copied).find(kind, str(getattr(record, kind)))
    assert found is not None
    found.verify()


def test_every_part_in_use_is_named(builder: PartsBuilder) -> None:
    keys = builder.referenced_keys()
    assert {kind for kind, _ in keys} == {"kernel", "runtime", "initramfs", "agent"}
    assert all(key for _, key in keys)


def test_the_digest_of_our_code_follows_the_boot_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "images"
    shutil.copytree(Path(guest_parts.__file__).parent, images)
    monkeypatch.setattr(guest_parts, "__file__", str(images / "guest_parts.py"))
    before = code_digest()
    (images / "store.py").write_text("# not for guests\n")
    assert code_digest() == before
    with (images / "init.sh").open("a") as script:
        script.write("# changed\n")
    assert code_digest() != before


BUILD = """
import sys
from pathlib import Path
from bhatti.images.artefacts import ArtefactStore, silent
from bhatti.images.guest_parts import PartsBuilder
from bhatti.images.packages import Apt
directory = Path(sys.argv[1])
artefacts = ArtefactStore(directory)
with artefacts.locked(lambda *a: print(*a, sep="|", flush=True)) as lock, artefacts.staging() as work:
    PartsBuilder(directory, artefacts).ensure(
        Apt(work / "apt", held_lock=lock), lock=lock, refresh=False,
        progress=lambda *a: print(*a, sep="|", flush=True))
"""


def test_a_build_killed_at_each_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    """The whole way of all parts, with real downloads, killed once in every stage."""
    directory = tmp_path / "images"
    finished: list[str] = []
    for stage in ("packages", "kernel", "agent's Python", "agent drive", None):
        begun, done = run_until(directory, stage)
        assert not set(begun) & set(finished), "a finished part was made again"
        finished += [name for name in done if name != "packages"]
    assert finished == ["kernel", "agent's Python", "agent drive"]
    assert sorted(path.name for path in directory.iterdir()) == ["artefacts", "guest.json", "lock"]
    builder = PartsBuilder(directory, ArtefactStore(directory))
    parts = builder.current()
    for artefact in (parts.kernel, parts.initramfs, parts.agent):
        artefact.verify()


def run_until(directory: Path, stage: str | None) -> tuple[list[str], list[str]]:
    """Build until `stage` has begun, then kill -9; return the stages that began and those that ended."""
    begun, ended = [], []
    with subprocess.Popen([sys.executable, "-c", BUILD, directory], stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        for line in build.stdout:
            name, done, total = line.rstrip().split("|")
            if name == "waiting for another build":  # for what the last one had started and takes a moment to die
                continue
            if done == total:
                ended.append(name)
            elif name not in begun:
                begun.append(name)
            if name == stage and done != total:
                build.kill()
                break
    assert build.returncode == (0 if stage is None else -signal.SIGKILL)
    return [name for name in begun if name != "packages"], ended


def test_two_builds_at_once_make_each_part_once(copied: Path) -> None:
    shutil.rmtree(copied / "artefacts/agent")
    shutil.rmtree(copied / "artefacts/initramfs")
    artefacts = ArtefactStore(copied)
    builds = []
    with artefacts.locked(silent):
        for _ in range(2):
            build = subprocess.Popen([sys.executable, "-c", BUILD, copied], stdout=subprocess.PIPE, text=True)
            assert build.stdout is not None
            assert build.stdout.readline() == "waiting for another build|0|1\n"
            builds.append(build)
    said = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert sum("agent drive|0|1" in text for text in said) == 1
    assert len(list((copied / "artefacts/agent").iterdir())) == 1
    assert os.listdir(copied / "artefacts/initramfs")  # noqa: PTH208 - names are enough
