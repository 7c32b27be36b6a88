import msgspec

from bhatti.operations.operation import Scope
from bhatti.operations.tables.secrets import OPERATIONS, SECRET_ROTATE_KEY


def test_they_are_the_owners_but_for_the_key_and_wake_nobody() -> None:
    assert [one for one in OPERATIONS if one.scope is not Scope.USER] == [SECRET_ROTATE_KEY]
    assert not [operation.name for operation in OPERATIONS if operation.wakes]


def test_no_answer_has_a_place_for_a_value() -> None:
    shapes, components = msgspec.json.schema_components([operation.result for operation in OPERATIONS])
    assert "value" not in {field for found in components.values() for field in found.get("properties", {})}
    assert shapes
