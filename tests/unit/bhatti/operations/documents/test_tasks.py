import msgspec
import pytest

from bhatti.operations.documents import tasks as types


def test_an_import_is_called_by_its_own_word() -> None:
    request = msgspec.json.decode(b'{"import": {"source": "oci:/x"}}', type=types.TaskStart)
    assert request.import_ is not None
    assert msgspec.json.encode(request) == b'{"import":{"source":"oci:/x"}}'


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "soon"])
def test_nobody_waits_longer_than_a_day(seconds: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"timeout_sec": seconds}, types.TaskWaitQuery, strict=False)
