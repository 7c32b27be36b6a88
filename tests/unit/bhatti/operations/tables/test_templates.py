from bhatti.operations.operation import Scope
from bhatti.operations.tables.templates import OPERATIONS, TEMPLATE_CREATE


def test_they_are_the_owners_and_wake_nobody() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}
    assert not [operation.name for operation in OPERATIONS if operation.wakes]


def test_what_is_made_is_answered_with_201() -> None:
    assert [operation for operation in OPERATIONS if operation.status == 201] == [TEMPLATE_CREATE]
