from bhatti.operations.operation import Scope
from bhatti.operations.tables.users import ME, OPERATIONS


def test_everybody_may_ask_who_they_are_and_the_administrator_alone_about_others() -> None:
    assert [operation for operation in OPERATIONS if operation.scope is not Scope.ADMIN] == [ME]
    assert ME.scope is Scope.USER
