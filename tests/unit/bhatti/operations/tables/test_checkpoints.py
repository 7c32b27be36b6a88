from bhatti.operations.operation import Scope
from bhatti.operations.tables.checkpoints import CHECKPOINT_CREATE, OPERATIONS, SANDBOX_FORK


def test_they_are_the_owner_s() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}


def test_what_is_made_is_answered_with_201() -> None:
    made = [operation for operation in OPERATIONS if operation.status == 201]
    assert made == [SANDBOX_FORK, CHECKPOINT_CREATE]


def test_all_of_them_are_about_one_sandbox() -> None:
    assert all(operation.path.startswith("/sandboxes/{id}/") for operation in OPERATIONS)
