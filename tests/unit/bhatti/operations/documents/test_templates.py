import msgspec
import pytest

from bhatti.operations.documents.sandboxes import Outfit, SandboxCreate
from bhatti.operations.documents.templates import Template, TemplateSet


def test_a_template_can_say_what_a_sandbox_can_have() -> None:
    for document in (SandboxCreate, TemplateSet, Template):
        assert set(Outfit.__struct_fields__) <= set(document.__struct_fields__)


def test_a_template_has_a_name_and_no_source() -> None:
    for wrong in (b"{}", b'{"name": "a", "from": "b"}', b'{"name": "a", "template": "b"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=TemplateSet)


def test_an_answer_of_a_later_daemon_is_understood() -> None:
    document = b'{"id": "1", "name": "a", "created_at": "2026-01-02T03:04:05Z", "of-tomorrow": 1}'
    assert msgspec.json.decode(document, type=Template).name == "a"
