from typing import Any

import msgspec
import pytest

from bhatti.operations import examples, table
from bhatti.operations.operation import Operation
from bhatti.operations.table import ALL


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.name)
def test_an_example_is_what_the_operation_takes_and_gives(operation: Operation[Any, Any]) -> None:
    example = examples.of(operation)
    assert "{" not in operation.target(example.parameters)
    if operation.request is not None and example.request is not None:
        msgspec.convert(msgspec.to_builtins(example.request), operation.request)
    if operation.query is not None:
        msgspec.convert(example.query, operation.query, strict=False)
    if example.answer is not None:
        assert operation.result is not None
        msgspec.convert(msgspec.to_builtins(example.answer), operation.result)


def test_there_is_no_example_of_nothing() -> None:
    assert set(examples.EXAMPLES) <= {operation.name for operation in ALL}


class Wish(msgspec.Struct):
    words: list[str]
    how_many: int
    kind: str | None
    loud: bool
    optional: str = "x"


def test_an_operation_without_an_example_gets_one_with_what_it_requires() -> None:
    wish: Operation[Any, Any] = Operation(
        name="wish", method="POST", path="/wishes/{fairy}/{id}", summary="Wish.", request=Wish
    )
    made = examples.of(wish)
    assert made.parameters == {"fairy": "fairy", "id": "agent-1"}
    assert set(made.request) == {"words", "how_many", "kind", "loud"}
    msgspec.convert(made.request, Wish)


def test_what_an_example_gives_comes_first() -> None:
    assert examples.of(table.IMAGE_REMOVE).parameters == {"name": "alpine-3.19"}
