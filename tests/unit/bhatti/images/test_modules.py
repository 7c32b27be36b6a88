import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.errors import CorruptData
from bhatti.images.artefacts import Artefact
from bhatti.images.modules import depends, load_order, modinfo, without_signature

MARK = b"~Module signature appended~\n"


def elf(**info: str) -> bytes:
    """Make an ELF file with a section `.modinfo` and nothing else."""
    data = b"".join(f"{key}={value}".encode() + b"\0" for key, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    table = 64 + len(data) + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2
    )
    sections = struct.pack("<IIQQQQIIQQ", *[0] * 10)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(data), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(data), len(names), 0, 0, 1, 0)
    return header + data + names + sections


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path, needs in {
        "drivers/virtio/virtio_ring.ko": "",
        "drivers/virtio/virtio.ko": "virtio_ring",
        "drivers/block/virtio-blk.ko": "virtio,virtio_ring",
        "drivers/net/net-failover.ko": "failover",
        "net/failover.ko": "",
        "fs/broken.ko": "absent",
        "fs/loop-a.ko": "loop_b",
        "fs/loop-b.ko": "loop_a",
    }.items():
        file = tmp_path / "kernel" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(elf(license="GPL", depends=needs, name="x"))
    return tmp_path


def test_modules_come_after_what_they_depend_on_and_once(tree: Path) -> None:
    order = load_order(["virtio_blk", "net_failover", "virtio"], tree)
    assert [module.name for module in order] == ["virtio_ring", "virtio", "virtio_blk", "failover", "net_failover"]
    assert order[2].depends == ("virtio", "virtio_ring")
    assert order[2].path.name == "virtio-blk.ko"


def test_a_wanted_module_without_file_may_be_built_in(tree: Path) -> None:
    assert load_order(["ext4"], tree) == []


def test_a_missing_dependency_is_corrupt(tree: Path) -> None:
    with pytest.raises(CorruptData, match=r"'absent', needed by 'broken'"):
        load_order(["broken"], tree)


def test_a_circle_of_dependencies_ends(tree: Path) -> None:
    assert {module.name for module in load_order(["loop_a"], tree)} == {"loop_a", "loop_b"}


def test_names_have_underscores_whatever_the_file_has() -> None:
    assert depends(elf(depends="vmw-vsock,vsock")) == ("vmw_vsock", "vsock")
    assert depends(elf(license="GPL")) == ()


@pytest.mark.parametrize("text", [b"", b"\x7fELF\x01\x01" + bytes(100), elf(depends="a")[:120]])
def test_what_is_no_whole_module_is_corrupt(text: bytes) -> None:
    with pytest.raises(CorruptData):
        depends(text)


@given(st.integers(0, 255), st.binary(max_size=30))
def test_damage_anywhere_gives_an_answer_or_corrupt_data(position: int, noise: bytes) -> None:
    module = bytearray(elf(license="GPL", depends="a,b"))
    module[position : position + len(noise)] = noise
    try:
        assert isinstance(modinfo(bytes(module)), list)
    except CorruptData as error:
        assert error.message  # noqa: PT017 - either outcome is right


def signed(module: bytes, signature: bytes) -> bytes:
    return module + signature + struct.pack(">8xI", len(signature)) + MARK


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_signature_is_taken_off(module: bytes, signature: bytes) -> None:
    assert without_signature(signed(module, signature)) == module


def test_an_unsigned_module_stays_as_it_is() -> None:
    assert without_signature(b"module") == b"module"


def test_a_signature_longer_than_its_module_is_corrupt() -> None:
    with pytest.raises(CorruptData, match="longer"):
        without_signature(struct.pack(">8xI", 1000) + MARK)


@pytest.mark.timeout(600)
def test_debians_modules_are_read(kernel: Artefact) -> None:
    release = kernel.manifest.details["release"]
    names = [module.name for module in load_order(["virtio_net"], kernel.directory / "modules" / release)]
    assert names.index("failover") < names.index("net_failover") < names.index("virtio_net")
