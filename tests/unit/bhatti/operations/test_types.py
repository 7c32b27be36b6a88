import msgspec
import pytest

from bhatti.errors import MissingDependency
from bhatti.operations import types


@pytest.mark.parametrize("request_type", [types.SandboxCreate, types.ExecRequest, types.ImageBuild, types.FileQuery])
def test_requests_name_the_field_they_do_not_know(request_type: type[types.Request]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `memroy`"):
        msgspec.json.decode(b'{"memroy": 1}', type=request_type)


def test_everything_about_a_sandbox_has_a_default() -> None:
    assert msgspec.json.decode(b"{}", type=types.SandboxCreate) == types.SandboxCreate()


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


@pytest.mark.parametrize("mode", ["999", "07777x", "rw", ""])
def test_a_mode_is_octal(mode: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/x", "mode": mode}, types.FileWriteQuery)


def test_query_parameters_are_texts_and_become_what_they_mean() -> None:
    query = msgspec.convert({"path": "/x", "ls": "true", "limit": "5"}, types.FileQuery, strict=False)
    assert (query.ls, query.limit) == (True, 5)


def test_an_injected_file_is_base64_on_the_wire() -> None:
    file = types.FileInjection(guest_path="/x", content=b"\xff")
    assert msgspec.json.encode(file) == b'{"guest_path":"/x","content":"/w=="}'


def test_an_event_of_an_error_says_all_that_the_error_says() -> None:
    event = types.ExecEvent.of(MissingDependency("no qemu", hint="apt install it", code="qemu-missing"))
    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        "type": "error",
        "error": "no qemu",
        "code": "qemu-missing",
        "hint": "apt install it",
        "kind": "missing-dependency",
    }
