from bhatti.operations.operation import Scope
from bhatti.operations.tables.images import IMAGE_LIST, OPERATIONS


def test_images_are_shared_and_making_them_is_the_administrator_s() -> None:
    assert [operation for operation in OPERATIONS if operation.scope is not Scope.ADMIN] == [IMAGE_LIST]
