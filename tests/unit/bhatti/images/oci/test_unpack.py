import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.making import Pack, archive, directory, file, gzipped, item, plain, sha256, zstd

from bhatti.errors import BhattiError, CorruptData, InvalidRequest, LimitExceeded
from bhatti.images.oci import unpack as module
from bhatti.images.oci.documents import Configuration, RootFs
from bhatti.images.oci.source import LayerInfo, ResolvedImage
from bhatti.images.oci.unpack import Limits, unpack

pytestmark = pytest.mark.usefixtures("as_root")


def run(
    root: Path,
    *layers: bytes,
    pack: Pack = plain,
    diff_ids: list[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008
) -> list[tuple[str, int, int]]:
    packed = [pack(layer) for layer in layers]
    digests = diff_ids or [sha256(layer) for layer in layers]
    infos = tuple(LayerInfo("", len(data), digest) for data, digest in zip(packed, digests, strict=True))
    image = ResolvedImage("test", sha256(b""), Configuration(RootFs(digests)), infos)
    told: list[tuple[str, int, int]] = []
    root.mkdir(exist_ok=True)
    assert unpack(image, [io.BytesIO(data) for data in packed], root, limits, lambda *now: told.append(now)) == {}
    return told


@pytest.mark.parametrize("pack", [plain, gzipped, zstd])
def test_layers_are_applied_in_order_however_they_are_packed(tmp_path: Path, pack: Pack) -> None:
    root = tmp_path / "root"
    told = run(
        root,
        archive([directory("d", mtime=5), file("d/a", b"1"), file("d/b", b"1")]),
        archive([file("d/a", b"2"), file("d/.wh.b")]),
        pack=pack,
    )
    assert {path.name: path.read_bytes() for path in (root / "d").iterdir()} == {"a": b"2"}
    assert (root / "d").stat().st_mtime == 5
    assert told[-1][1] == told[-1][2] > 0


def test_the_progress_grows_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLD_BYTES", 100_000)
    told = run(tmp_path / "root", *[archive([file(f"f{i}", bytes(1_000_000))]) for i in range(2)])
    done = [now for _, now, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 10
    assert {(stage, total) for stage, _, total in told} == {("unpack", done[-1])}


def test_a_layer_that_is_not_what_the_configuration_says_is_found_out(tmp_path: Path) -> None:
    layer = archive([file("a")])
    with pytest.raises(CorruptData, match="a layer, unpacked, of test") as caught:
        run(tmp_path / "root", layer, diff_ids=[sha256(b"other")])
    assert caught.value.code == "digest-mismatch"


def test_the_digest_covers_what_stands_after_the_archive(tmp_path: Path) -> None:
    layer = archive([file("a")])
    run(tmp_path / "one", layer + bytes(50_000))
    with pytest.raises(CorruptData):
        run(tmp_path / "two", layer + b"hidden", diff_ids=[sha256(layer)])


def test_the_same_file_may_be_two_layers(tmp_path: Path) -> None:
    layer = archive([file("a")])
    image = ResolvedImage(
        "test",
        sha256(b""),
        Configuration(RootFs([sha256(layer)] * 2)),
        (LayerInfo("", len(layer), sha256(layer)),) * 2,
    )
    root = tmp_path / "root"
    root.mkdir()
    opened = io.BytesIO(layer)
    unpack(image, [opened, opened], root, Limits(), lambda *now: None)
    assert [path.name for path in root.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("layer", "kind", "code", "reason"),
    [
        (b"junk" * 500, CorruptData, "bad-layer", "layer 2 of 2 of test is damaged: this is not a tar archive"),
        (archive([file("a", b"x" * 5000)])[:3000], CorruptData, "bad-layer", "ends in the middle"),
        (gzipped(archive([file("a", b"x" * 5000)]))[:-9], CorruptData, "bad-layer", "ends too early"),
        (archive([item("dev/sda", tarfile.BLKTYPE)]), InvalidRequest, "image-refused", "dev/sda: .* device nodes"),
        (archive([file("../x")]), InvalidRequest, "image-refused", "layer 2 of 2 of test was refused: ../x"),
        (archive([file("x" * 300)]), InvalidRequest, "image-refused", "x{190}.*: File name too long"),
    ],
)
def test_what_is_wrong_with_a_layer_is_said_with_its_number(
    tmp_path: Path, layer: bytes, kind: type[BhattiError], code: str, reason: str
) -> None:
    with pytest.raises(kind, match=reason) as caught:
        run(tmp_path / "root", archive([file("good")]), layer)
    assert caught.value.code == code


def test_bombs_are_put_out(tmp_path: Path) -> None:
    limits = Limits(max_bytes=1 << 20, max_entries=100)
    bombs = [
        archive([file("a", bytes(2 << 20))]),
        archive([file("a")]) + bytes(5 << 20),
        archive([file(f"f{i}") for i in range(101)]),
    ]
    for number, bomb in enumerate(bombs):
        with pytest.raises(LimitExceeded) as caught:
            run(tmp_path / str(number), bomb, pack=gzipped, limits=limits)
        assert caught.value.code == "image-too-large"


@pytest.mark.root
def test_a_full_disk_is_the_hosts_fault_and_not_the_layers(tiny_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run(tiny_disk / "root", archive([file("a", bytes(2 << 20))]))


def test_remarks_tell_of_lost_capabilities(tmp_path: Path) -> None:
    """A file system without extended attributes: ramfs has none."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", disk], check=True)
    try:
        info, content = file("ping", b"x")
        info.pax_headers = {
            "SCHILY.xattr.security.capability": bytes.fromhex("0100000200200000" + "00" * 12).decode("latin-1"),
        }
        layer = archive([(info, content)])
        image = ResolvedImage(
            "test", "", Configuration(RootFs([sha256(layer)])), (LayerInfo("", len(layer), sha256(layer)),)
        )
        remarks = unpack(image, [io.BytesIO(layer)], disk, Limits(), lambda *now: None)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert remarks == {"lost-capabilities": "1 files: the host's file system takes none"}
