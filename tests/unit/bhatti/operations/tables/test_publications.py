from bhatti.operations.operation import Scope
from bhatti.operations.tables.publications import OPERATIONS, PUBLISH, UNPUBLISH


def test_they_are_the_owner_s_and_wake_nobody() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}
    assert not [operation.name for operation in OPERATIONS if operation.wakes]


def test_statuses_are_those_of_the_reference() -> None:
    assert (PUBLISH.status, PUBLISH.again, UNPUBLISH.status) == (201, 200, 204)
