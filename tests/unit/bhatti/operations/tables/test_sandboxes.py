from bhatti.operations.operation import Scope
from bhatti.operations.tables.sandboxes import OPERATIONS, SANDBOX_CREATE


def test_they_are_the_owner_s() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}


def test_none_of_them_wakes_a_sandbox_by_the_way() -> None:
    assert not [operation.name for operation in OPERATIONS if operation.wakes]


def test_what_is_made_is_answered_with_201() -> None:
    assert SANDBOX_CREATE.status == 201
