import msgspec

from bhatti.operations.documents import sandboxes as types


def test_everything_about_a_sandbox_has_a_default() -> None:
    assert msgspec.json.decode(b"{}", type=types.SandboxCreate) == types.SandboxCreate()


def test_an_injected_file_is_base64_on_the_wire() -> None:
    file = types.FileInjection(guest_path="/x", content=b"\xff")
    assert msgspec.json.encode(file) == b'{"guest_path":"/x","content":"/w=="}'
