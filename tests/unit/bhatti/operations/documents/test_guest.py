import msgspec
import pytest

from bhatti.operations.documents import guest as types


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        b'{"cmd": []}',
        b'{"cmd": "true"}',
        b'{"cmd": ["true"], "timeout_sec": 0}',
        b'{"cmd": ["true"], "timeout_sec": 100000}',
        b'{"cmd": ["true"], "encoding": "utf-16"}',
        b'{"cmd": ["true"], "max_output_bytes": 100000000000}',
        b'{"cmd": ["true"], "env": {"A": 1}}',
    ],
)
def test_a_command_out_of_bounds_is_refused(document: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=types.ExecRequest)
