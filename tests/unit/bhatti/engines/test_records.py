from pathlib import Path

import msgspec
import pytest

from bhatti.engines import records
from bhatti.errors import CorruptData


class Count(msgspec.Struct):
    machines: int


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "count.json").write_bytes(msgspec.json.encode(Count(machines=3)))
    assert records.read(tmp_path / "count.json", Count) == Count(machines=3)


def test_no_record_is_none(tmp_path: Path) -> None:
    assert records.read(tmp_path / "count.json", Count) is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"machines": "three"}', b"\xff"])
def test_a_spoilt_record_is_corrupt_data_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "count.json").write_bytes(content)
    with pytest.raises(CorruptData, match=r"count\.json") as caught:
        records.read(tmp_path / "count.json", Count)
    assert (caught.value.code, caught.value.hint) == ("record-corrupt", "the sandbox can only be destroyed")


def test_what_cannot_be_read_at_all_is_corrupt_data_too(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match="Is a directory"):
        records.read(tmp_path, Count)


def test_nobody_is_known_by_the_id_alone() -> None:
    nobody = records.nobody("s1")
    assert (nobody.id, nobody.name, nobody.token) == ("s1", "s1", "")
