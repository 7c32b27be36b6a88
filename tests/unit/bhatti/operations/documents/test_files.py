import msgspec
import pytest

from bhatti.operations.documents import files as types


@pytest.mark.parametrize("mode", ["999", "07777x", "rw", ""])
def test_a_mode_is_octal(mode: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/x", "mode": mode}, types.FileWriteQuery)


def test_query_parameters_are_texts_and_become_what_they_mean() -> None:
    query = msgspec.convert({"path": "/x", "ls": "true", "limit": "5"}, types.FileQuery, strict=False)
    assert (query.ls, query.limit) == (True, 5)


@pytest.mark.parametrize("name", ["a/b", "a\0b", "x" * 256])
def test_a_name_in_an_archive_is_one_name(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/x", "name": name}, types.ArchiveQuery)


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "soon"])
def test_a_watch_ends_within_a_day(seconds: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/x", "timeout_sec": seconds}, types.WatchQuery, strict=False)
