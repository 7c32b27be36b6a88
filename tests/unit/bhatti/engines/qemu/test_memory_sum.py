import os
import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.engines.qemu import memory_sum
from bhatti.engines.qemu.copying import copy_sparse
from bhatti.engines.qemu.memory_sum import BackgroundSum, GivenUp, checksum, content_damage
from bhatti.engines.qemu.snapshot import SealedFile, seal

SIZE = 9 * memory_sum.CHUNK_BYTES + 4096


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A sparse file with something in the middle, something across two chunks, and something at its end."""
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for place in (2 * memory_sum.CHUNK_BYTES + 5, 5 * memory_sum.CHUNK_BYTES - 3, SIZE - 10):
            file.seek(place)
            file.write(b"something!")
    return path


def change(path: Path, place: int, byte: int) -> SealedFile:
    """Change a byte as nobody does who leaves a trace; return the file as it was sealed."""
    sealed = seal(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([byte]))
    os.utime(path, ns=(sealed.mtime_ns, sealed.mtime_ns))
    return sealed


def test_holes_and_zeros_are_the_same_and_so_are_copies(memory: Path, tmp_path: Path) -> None:
    dense = tmp_path / "dense"
    dense.write_bytes(memory.read_bytes())
    copy_sparse(memory, tmp_path / "copy")
    assert memory.stat().st_blocks < dense.stat().st_blocks
    assert checksum(dense) == checksum(memory) == checksum(tmp_path / "copy")


@given(place=st.integers(0, SIZE - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "ram"
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE // 2)
        file.write(b"something")
    before = checksum(path)
    found = path.read_bytes()[place]
    change(path, place, found ^ 1 << bit)
    assert checksum(path) != before
    path.unlink()


def test_the_same_content_elsewhere_is_another(tmp_path: Path) -> None:
    sums = set()
    for place in range(3):
        path = tmp_path / str(place)
        with path.open("wb") as file:
            file.truncate(4 * memory_sum.CHUNK_BYTES)
            file.seek(place * memory_sum.CHUNK_BYTES)
            file.write(b"something")
        sums.add(checksum(path))
    assert len(sums) == 3


def test_the_first_who_asks_makes_the_checksum_and_later_ones_are_told(memory: Path) -> None:
    sealed = seal(memory)
    assert content_damage(sealed) is None
    assert content_damage(sealed) is None
    change(memory, 7, 1)
    assert "does not match its checksum" in str(content_damage(sealed))


def test_the_checksum_of_another_stop_says_nothing(memory: Path) -> None:
    assert content_damage(seal(memory)) is None
    with memory.open("r+b") as file:
        file.write(b"the guest ran on")
    os.utime(memory, ns=(1, 1))
    assert content_damage(seal(memory)) is None


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"size_bytes":"x"}'])
def test_a_spoilt_checksum_is_made_anew(memory: Path, spoilt: bytes) -> None:
    (memory.parent / "ram.sum").write_bytes(spoilt)
    assert content_damage(seal(memory)) is None
    change(memory, 7, 1)
    assert content_damage(seal(memory)) is not None


def test_a_file_that_is_gone_is_told(memory: Path) -> None:
    sealed = seal(memory)
    memory.unlink()
    assert "cannot be read" in str(content_damage(sealed))


def test_it_is_given_up_within_a_chunk(memory: Path) -> None:
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(GivenUp):
        checksum(memory, given_up)


@pytest.mark.anyio
async def test_in_background_it_is_made_or_given_up(memory: Path) -> None:
    first = BackgroundSum(seal(memory))
    await first.made()
    sum_file = memory.parent / "ram.sum"
    assert sum_file.exists()
    await first.give_up()
    second = BackgroundSum(seal(memory))
    await second.give_up()
    await anyio.Path(memory).unlink()
    await anyio.Path(sum_file).unlink()
    third = BackgroundSum(SealedFile(str(memory), SIZE, 1))
    await third.made()  # what cannot be read is told to whoever asks for it
    await third.give_up()
    assert list(memory.parent.iterdir()) == []
