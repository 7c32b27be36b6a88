from bhatti.operations.operation import Scope
from bhatti.operations.tables.images import IMAGE_GET, IMAGE_LIST, IMAGE_PULL, IMAGE_REMOVE, OPERATIONS


def test_users_may_have_images_of_registries_and_the_rest_is_the_administrator_s() -> None:
    assert [operation for operation in OPERATIONS if operation.scope is not Scope.ADMIN] == [
        IMAGE_LIST,
        IMAGE_GET,
        IMAGE_PULL,
        IMAGE_REMOVE,
    ]
