from bhatti.operations.operation import Scope
from bhatti.operations.tables.tasks import OPERATIONS


def test_everybody_sees_to_their_own() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}
    assert not any(operation.wakes for operation in OPERATIONS)
