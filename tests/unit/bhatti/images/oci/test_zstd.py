import subprocess

import pytest

from bhatti.errors import MissingDependency
from bhatti.images.oci import zstd


def compress(data: bytes, *options: str) -> bytes:
    return subprocess.run(["zstd", "-cq", *options], input=data, capture_output=True, check=True).stdout


def unfold(data: bytes, step: int = 1 << 17) -> bytes:
    with zstd.Decompressor() as decompressor:
        found = b"".join(piece for at in range(0, len(data), step) for piece in decompressor.feed(data[at : at + step]))
        assert decompressor.at_frame_end
    return found


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) - 1, 5_000_000])
@pytest.mark.parametrize("step", [1 << 17, 7])
def test_what_zstd_packs_is_unfolded(size: int, step: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert unfold(compress(data), step) == data


def test_frames_in_a_row_are_one_stream() -> None:
    assert unfold(compress(b"first") + compress(b"second")) == b"firstsecond"


def test_pieces_are_of_bounded_size() -> None:
    with zstd.Decompressor() as decompressor:
        pieces = [len(piece) for piece in decompressor.feed(compress(bytes(10 << 20)))]
    assert sum(pieces) == 10 << 20
    assert max(pieces) <= 1 << 20


def test_a_frame_that_is_cut_off_is_known() -> None:
    with zstd.Decompressor() as decompressor:
        list(decompressor.feed(compress(b"x" * 1000)[:-3]))
        assert not decompressor.at_frame_end


def test_damage_is_noticed() -> None:
    damaged = bytearray(compress(b"some text that is long enough to be packed " * 50, "--check"))
    damaged[-1] ^= 1
    with zstd.Decompressor() as decompressor, pytest.raises(zstd.ZstdError, match=r"[Cc]hecksum"):
        list(decompressor.feed(bytes(damaged)))
    with zstd.Decompressor() as decompressor, pytest.raises(zstd.ZstdError):
        list(decompressor.feed(b"no zstd at all"))


def test_a_frame_that_wants_too_much_memory_is_refused() -> None:
    data = compress(bytes(3 << 20), "--ultra", "-22", "--long=31", "--no-check")
    with zstd.Decompressor() as decompressor, pytest.raises(zstd.ZstdError, match="memory"):
        list(decompressor.feed(data))


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "LIBRARY", "libzstd-of-nowhere.so")
    zstd._library.cache_clear()
    with pytest.raises(MissingDependency, match="zstd") as caught:
        zstd.Decompressor()
    assert caught.value.hint == "install it: apt-get install libzstd1"
    zstd._library.cache_clear()
