from bhatti.operations.operation import Scope
from bhatti.operations.tables.system import DOCTOR, OPERATIONS


def test_none_of_them_names_a_sandbox() -> None:
    assert not [operation for operation in OPERATIONS if operation.path.startswith("/sandboxes")]


def test_looking_at_the_machine_is_for_who_runs_it() -> None:
    assert DOCTOR.scope is Scope.ADMIN
