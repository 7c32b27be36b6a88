import msgspec
import pytest

from bhatti.operations.documents.sandboxes import SandboxCreate
from bhatti.operations.documents.secrets import MAX_VALUE_CHARACTERS, SecretSet, SecretWanted


@pytest.mark.parametrize(
    "document",
    [
        {"name": "a"},
        {"name": "a", "value": ""},
        {"name": "", "value": "x"},
        {"name": "a" * 64, "value": "x"},
        {"name": "a", "value": "x" * (MAX_VALUE_CHARACTERS + 1)},
        {"name": "a", "value": 7},
        {"name": "a", "value": "x", "path": "/"},
    ],
)
def test_a_secret_has_a_name_and_a_value_within_limits(document: object) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(msgspec.json.encode(document), type=SecretSet)
    assert "xxx" not in str(caught.value)


def test_a_sandbox_asks_for_secrets_by_name_or_says_where() -> None:
    document = b'{"secrets": ["A", {"name": "b", "file": "/b", "mode": "0400"}, {"name": "c", "env": "C"}]}'
    assert msgspec.json.decode(document, type=SandboxCreate).secrets == [
        "A",
        SecretWanted(name="b", file="/b", mode="0400"),
        SecretWanted(name="c", env="C"),
    ]
    for wrong in (b'{"secrets": [7]}', b'{"secrets": [{"name": "a", "mode": "rw"}]}', b'{"secrets": [""]}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=SandboxCreate)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"secrets": ["A"] * 33}), type=SandboxCreate)
