from bhatti.operations.operation import Scope
from bhatti.operations.tables.tasks import OPERATIONS, TASK_START


def test_everybody_sees_to_their_own_and_images_are_the_administrator_s() -> None:
    assert {operation.scope for operation in OPERATIONS if operation is not TASK_START} == {Scope.USER}
    assert TASK_START.scope is Scope.ADMIN
    assert not any(operation.wakes for operation in OPERATIONS)
