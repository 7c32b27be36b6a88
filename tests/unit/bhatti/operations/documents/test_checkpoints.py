import msgspec
import pytest

from bhatti.operations.documents import checkpoints as types
from bhatti.operations.documents.sandboxes import SandboxCreate


def test_everything_about_a_fork_has_a_default() -> None:
    assert msgspec.json.decode(b"{}", type=types.SandboxFork) == types.SandboxFork()


def test_a_checkpoint_has_to_have_a_name() -> None:
    for raw in (b"{}", b'{"name": ""}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(raw, type=types.CheckpointCreate)


def test_a_creation_names_its_source_by_from() -> None:
    assert msgspec.json.decode(b'{"from": "one"}', type=SandboxCreate).source == "one"
    assert msgspec.json.encode(SandboxCreate(source="one")) == b'{"from":"one"}'
