import bz2
import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from bhatti.errors import CorruptData, MissingDependency
from bhatti.images import kernel, programs
from bhatti.images.artefacts import Artefact
from bhatti.images.kernel import decompress, extract_vmlinux, kernel_release
from bhatti.images.lz4 import LEGACY_MAGIC

ELF = b"\x7fELF" + bytes(1000) + b"kernel"
SIZE = len(ELF).to_bytes(4, "little")
"""What the kernel's build appends to each payload."""


def bzimage(payload: bytes, *, setup_sectors: int = 4) -> bytes:
    """Make the parts of a bzImage that matter (Documentation/arch/x86/boot.rst)."""
    image = bytearray((1 + (setup_sectors or 4)) * 512)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    image[0x248:0x24C] = (64).to_bytes(4, "little")
    image[0x24C:0x250] = len(payload).to_bytes(4, "little")
    return bytes(image) + bytes(64) + payload + b"signature"


def lz4(data: bytes) -> bytes:
    extra = len(data) - 15
    block = b"\xf0" + b"\xff" * (extra // 255) + bytes([extra % 255]) + data
    return LEGACY_MAGIC + len(block).to_bytes(4, "little") + block


@pytest.mark.parametrize("setup_sectors", [0, 4, 31])
@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(ELF),
        bz2.compress(ELF),
        lzma.compress(ELF),
        lzma.compress(ELF, format=lzma.FORMAT_ALONE),
        lz4(ELF),
    ],
    ids=["gzip", "bzip2", "xz", "lzma", "lz4"],
)
def test_the_kernel_comes_out_of_its_bzimage_however_it_is_packed(packed: bytes, setup_sectors: int) -> None:
    assert extract_vmlinux(bzimage(packed + SIZE, setup_sectors=setup_sectors)) == ELF


@pytest.mark.skipif(shutil.which("zstd") is None, reason="packs with the zstd program: apt install zstd")
def test_a_zstd_kernel_is_unpacked_by_the_zstd_program() -> None:
    packed = subprocess.run(["zstd", "-cq"], input=ELF, capture_output=True, check=True).stdout
    assert extract_vmlinux(bzimage(packed + SIZE)) == ELF
    with pytest.raises(CorruptData, match="cannot be decompressed"):
        extract_vmlinux(bzimage(packed[:-8] + SIZE))


def test_without_the_zstd_program_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "_ADMIN_DIRECTORIES", "/nowhere")
    with pytest.raises(MissingDependency) as caught:
        decompress(b"\x28\xb5\x2f\xfd" + bytes(20))
    assert "apt-get install zstd" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "setup header"),
        (bytes(4096), "setup header"),
        (bzimage(gzip.compress(ELF))[:-200], "cut short"),
        (bzimage(b"unknown compression"), "unknown way"),
        (bzimage(gzip.compress(b"no kernel" * 10)), "not an ELF"),
        (bzimage(gzip.compress(ELF)[:10] + bytes(100)), "cannot be decompressed"),
        (bzimage(lzma.compress(ELF)[:30] + bytes(100)), "cannot be decompressed"),
        (bzimage(bz2.compress(ELF)[:10] + bytes(100)), "cannot be decompressed"),
    ],
)
def test_what_holds_no_kernel_is_corrupt(image: bytes, reason: str) -> None:
    with pytest.raises(CorruptData, match=reason):
        extract_vmlinux(image)


def test_a_kernel_package_has_the_modules_of_one_release(tmp_path: Path) -> None:
    (tmp_path / "6.1.0-1-cloud-amd64").mkdir()
    assert kernel_release(tmp_path) == "6.1.0-1-cloud-amd64"
    (tmp_path / "6.1.0-2-cloud-amd64").mkdir()
    with pytest.raises(CorruptData, match="one kernel"):
        kernel_release(tmp_path)


@pytest.mark.timeout(600)
def test_the_built_kernel_is_an_elf_file_with_a_pvh_entry(kernel: Artefact) -> None:
    vmlinux = kernel.checked("vmlinux")
    notes = subprocess.run(["readelf", "--notes", vmlinux], capture_output=True, text=True, check=False)
    if notes.returncode == 0:
        assert "0x00000012" in notes.stdout, "XEN_ELFNOTE_PHYS32_ENTRY is what -kernel of QEMU enters by"
    assert vmlinux.read_bytes()[:4] == b"\x7fELF"
    assert kernel.manifest.details["release"].endswith("cloud-amd64")


def test_the_limit_is_well_above_real_kernels() -> None:
    assert kernel.MAX_KERNEL_BYTES > 5 * 60_000_000
