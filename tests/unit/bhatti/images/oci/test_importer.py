import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.conftest import Skopeo, mounted
from tests.unit.bhatti.images.oci.making import (
    MadeImage,
    archive,
    directory,
    file,
    hard_link,
    item,
    make_image,
    symlink,
    write_layout,
    zstd,
)
from tests.unit.bhatti.images.oci.serving import FakeRegistry, Respond, Server

from bhatti.errors import BhattiError, InvalidRequest, LimitExceeded, MissingDependency, OutOfSpace
from bhatti.images.artefacts import silent
from bhatti.images.image_config import ImageConfig, read_image_config
from bhatti.images.oci.pull import RegistrySource
from bhatti.images.oci.reference import parse_reference
from bhatti.images.oci.sources import open_source
from bhatti.images.oci.unpack import Limits
from bhatti.images.store import ImageStore

Serve = Callable[[Respond], Server]
pytestmark = pytest.mark.usefixtures("as_root")


def image(content: bytes = b"hello") -> MadeImage:
    return make_image(
        [
            archive(
                [
                    directory("bin"), file("bin/su", b"elf", mode=0o4755), hard_link("bin/sudo", "bin/su"),
                    directory("home/app", uid=1000, gid=1000, mode=0o700), symlink("lib", "usr/lib"),
                    file("etc/motd", content, uid=5, mtime=1_234_567_890), file("gone"),
                ]
            ),
            archive([file(".wh.gone"), file("lib/added", b"through the link")]),
        ],
        execution={"Env": ["PATH=/opt/bin:/bin"], "Cmd": ["/bin/su"], "User": "app", "WorkingDir": "/home/app"},
    )  # fmt: skip


def nothing_left(store: ImageStore) -> bool:
    """Say whether the directory of images is as if nothing had been tried."""
    return [path for path in store.directory.rglob("*") if path.is_file() and path.name != "lock"] == []


def test_an_image_becomes_a_file_system_with_all_its_attributes(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    made = store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    assert (made.name, made.source) == ("app", f"oci:{tmp_path / 'layout'}")
    assert [i.name for i in store.list()] == ["app"]
    with mounted(store, "app", tmp_path / "root") as root:
        assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == [
            "bin", "bin/su", "bin/sudo", "etc", "etc/motd", "home", "home/app", "lib", "lost+found",
            "usr", "usr/lib", "usr/lib/added",
        ]  # fmt: skip
        assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755
        motd, home = (root / "etc/motd").stat(), (root / "home/app").stat()
        assert (motd.st_uid, motd.st_mtime, (root / "etc/motd").read_bytes()) == (5, 1_234_567_890, b"hello")
        assert (home.st_uid, home.st_gid, stat.S_IMODE(home.st_mode)) == (1000, 1000, 0o700)
        assert os.readlink(root / "lib") == "usr/lib"  # noqa: PTH115


def test_hard_links_and_capabilities_get_into_the_file_system(store: ImageStore, tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    info, content = file("ping", b"x", mode=0o755)
    info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    write_layout(tmp_path / "layout", make_image([archive([(info, content), hard_link("pong", "ping")])]))
    store.import_image(open_source(f"oci:{tmp_path / 'layout'}"))
    (path,) = (store.directory / "artefacts/root").glob("*/root.ext4")

    def debugfs(request: str) -> str:
        return subprocess.run(["debugfs", "-R", request, path], capture_output=True, text=True, check=True).stdout

    assert "Links: 2" in debugfs("stat /ping")
    assert debugfs("stat /ping").splitlines()[0] == debugfs("stat /pong").splitlines()[0]
    assert "01 00 00 02 00 20" in debugfs("ea_get -x /ping security.capability")
    checked = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_what_the_image_says_about_running_is_kept(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    (root,) = store._artefacts.all()
    assert read_image_config(root) == ImageConfig(
        env={"PATH": "/opt/bin:/bin"}, command=("/bin/su",), user="app", directory="/home/app"
    )


def test_the_same_image_is_unpacked_once_wherever_it_comes_from(
    store: ImageStore, tmp_path: Path, registry: str, skopeo: Skopeo
) -> None:
    made = image()
    write_layout(tmp_path / "layout", made, names=["x"])
    packed = make_image(made.tars, pack=zstd)
    packed.config.data = made.config.data
    skopeo.push(made, f"{registry}/same:1")
    first = store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "first")
    stages: set[str] = set()
    second = store.import_image(
        RegistrySource(parse_reference(f"{registry}/same:1")), progress=lambda stage, done, total: stages.add(stage)
    )
    assert (second.name, second.digest) == ("same-1", first.digest)
    assert stages == {"resolve"}  # nothing was downloaded or unpacked
    assert len(store._artefacts.all()) == 1
    store.remove("first")
    store.collect(frozenset)
    assert [i.name for i in store.list()] == ["same-1"]
    store.remove("same-1")
    assert store.collect(frozenset) > 0
    assert store._artefacts.all() == []


def test_a_name_moves_to_the_image_that_was_imported_last(store: ImageStore, tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        write_layout(tmp_path / str(number), image(b"%d" % number))
        digests.append(store.import_image(open_source(f"oci:{tmp_path / str(number)}"), "app").digest)
    assert [i.digest for i in store.list()] == digests[1:]


@pytest.mark.parametrize("name", ["base", "", "a/b", "../x", "x" * 64, ".hidden"])
def test_a_name_that_no_image_may_have_is_refused_before_anything_is_done(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    write_layout(tmp_path / "layout", image())
    with pytest.raises(InvalidRequest) as caught:
        store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), name)
    assert caught.value.code == "bad-image-name"
    write_layout(tmp_path / "named", image(), names=["team/app:1"])
    with pytest.raises(InvalidRequest, match="'team/app:1' cannot name an image"):
        store.import_image(open_source(f"oci:{tmp_path / 'named'}"))
    assert nothing_left(store)


@pytest.mark.parametrize(
    ("layers", "code"),
    [
        ([archive([file("good")]), archive([item("dev/null", tarfile.CHRTYPE)])], "image-refused"),
        ([archive([file("good")]), archive([file("../../escaped")])], "image-refused"),
        ([archive([file("good")]), b"junk" * 1000], "bad-layer"),
        ([archive([file("big", bytes(3 << 20))])], "image-too-large"),
    ],
)
def test_of_an_image_that_is_refused_nothing_is_left(
    store: ImageStore, serve: Serve, layers: list[bytes], code: str
) -> None:
    fake = FakeRegistry()
    fake.add(make_image(layers), "v1")
    reference = parse_reference(f"{serve(fake).host}/app:v1")
    with pytest.raises(BhattiError) as caught:
        store.import_image(RegistrySource(reference), limits=Limits(max_bytes=1 << 20))
    assert caught.value.code == code
    assert store.list() == []
    assert nothing_left(store)


def test_what_is_too_large_while_it_is_packed_is_not_fetched(store: ImageStore, serve: Serve) -> None:
    fake = FakeRegistry()
    made = make_image([archive([file("noise", os.urandom(2 << 20))])])
    fake.add(made, "v1")
    server = serve(fake)
    with pytest.raises(LimitExceeded) as caught:
        store.import_image(RegistrySource(parse_reference(f"{server.host}/app:v1")), limits=Limits(max_bytes=1 << 20))
    assert caught.value.code == "image-too-large"
    assert not any(made.layers[0].digest in path for path in server.paths())
    assert nothing_left(store)


def test_a_damaged_artefact_is_made_again(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    first = store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    (path,) = (store.directory / "artefacts/root").glob("*/root.ext4")
    path.write_bytes(b"damaged")
    second = store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    assert (second.size_bytes, path.stat().st_size) == (first.size_bytes, first.size_bytes)
    for artefact in store._artefacts.all():
        artefact.verify()


def test_two_imports_at_once_make_one_artefact(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    digests: list[str] = []

    def run(name: str) -> None:
        digests.append(ImageStore(store.directory).import_image(open_source(f"oci:{tmp_path / 'layout'}"), name).digest)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(digests)) == 1
    assert len(digests) == 3
    assert [i.name for i in store.list()] == ["one", "three", "two"]
    assert len(list((store.directory / "artefacts/root").iterdir())) == 1


def test_an_import_that_is_killed_leaves_nothing_that_the_next_one_minds(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bhatti.images.oci.sources import open_source\n"
        "from bhatti.images.store import ImageStore\n"
        "def die(stage, done, total):\n"
        "    if (stage, done) == (sys.argv[3], 0): os.kill(os.getpid(), signal.SIGKILL)\n"
        "ImageStore(Path(sys.argv[1])).import_image(open_source(sys.argv[2]), 'app', progress=die)\n"
    )
    python = [sys.executable, "-c", script]
    for stage in ("verify", "unpack", "file system"):
        done = subprocess.run([*python, store.directory, f"oci:{tmp_path / 'layout'}", stage], check=False)
        assert done.returncode == -9
        assert store.list() == []
    store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    assert [i.name for i in store.list()] == ["app"]
    assert list((store.directory / "staging").glob("*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.root
@pytest.mark.parametrize("size", [1_500_000, 3_000_000, 6_000_000])
def test_a_full_disk_at_any_moment_leaves_nothing(small_disk: Path, serve: Serve, size: int) -> None:
    """Too large to be downloaded, to be unpacked beside the download, to become a file system beside both."""
    fake = FakeRegistry()
    fake.add(make_image([archive([file("big", os.urandom(size))])]), "v1")
    store = ImageStore(small_disk / "images")
    reference = parse_reference(f"{serve(fake).host}/app:v1")
    with pytest.raises(OutOfSpace):
        store.import_image(RegistrySource(reference))
    assert nothing_left(store)


def test_without_root_nothing_is_begun(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(tmp_path / "layout", image())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingDependency) as caught:
        store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    assert caught.value.code == "needs-root"


def test_an_artefact_that_goes_while_the_lock_is_waited_for_is_made_again(store: ImageStore, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image())
    store.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "app")
    waiting = threading.Event()

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "waiting for another build":
            waiting.set()

    def again() -> None:
        other = ImageStore(store.directory)
        other.import_image(open_source(f"oci:{tmp_path / 'layout'}"), "again", progress=progress)

    thread = threading.Thread(target=again)
    with store._artefacts.locked(silent):
        thread.start()
        assert waiting.wait(60)
        for artefact in store._artefacts.all():
            store._artefacts.remove(artefact)
    thread.join()
    (made,) = store._artefacts.all()
    made.verify()
    assert "again" in [i.name for i in store.list()]
