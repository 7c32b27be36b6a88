import pytest

from bhatti.operations.operation import Operation, Scope
from bhatti.operations.tables.files import OPERATIONS
from bhatti.operations.tables.guest import GUEST_ERRORS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_is_the_owner_s_and_wakes_the_sandbox_that_it_enters(operation: Operation[object, object]) -> None:
    assert operation.scope is Scope.USER
    assert operation.path.startswith("/sandboxes/{id}/")
    assert operation.wakes
    assert set(GUEST_ERRORS) <= set(operation.errors)
