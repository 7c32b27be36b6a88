from bhatti.operations.operation import Scope
from bhatti.operations.tables.observation import BACKUP, METRICS, OPENAPI, OPERATIONS, PAGE


def test_none_of_them_changes_anything() -> None:
    assert {operation.method for operation in OPERATIONS} == {"GET"}
    assert not [operation for operation in OPERATIONS if operation.wakes]


def test_what_shows_everybodys_work_is_for_who_runs_the_daemon() -> None:
    assert {BACKUP.scope, METRICS.scope} == {Scope.ADMIN}


def test_what_the_api_is_may_be_known_by_anybody() -> None:
    assert {OPENAPI.scope, PAGE.scope} == {Scope.PUBLIC}
