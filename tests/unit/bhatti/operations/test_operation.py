import pytest

from bhatti.errors import InvalidRequest
from bhatti.operations.operation import Operation, Scope, Streams

GET: Operation[None, None] = Operation(
    name="x", method="GET", path="/sandboxes/{id}/proxy/{port}/{rest:.*}", summary="X."
)


def test_parameters_are_put_into_the_path() -> None:
    assert GET.target({"id": "a", "port": "80", "rest": "x/y"}) == "/sandboxes/a/proxy/80/x/y"


def test_parameters_are_escaped_so_that_they_stay_one_part_of_the_path() -> None:
    assert (
        GET.target({"id": "a/../b?c#d", "port": "80", "rest": "é"}) == "/sandboxes/a%2F..%2Fb%3Fc%23d/proxy/80/%C3%A9"
    )


@pytest.mark.parametrize("bad", ["", ".", ".."])
def test_a_parameter_that_a_path_cannot_carry_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GET.target({"id": bad})
    assert caught.value.code == "bad-name"


def test_a_query_is_escaped() -> None:
    target = GET.target({"id": "a", "port": "1", "rest": ""}, {"path": "/a b&c", "ls": "true"})
    assert target.endswith("?path=/a%20b%26c&ls=true")


def test_an_operation_is_plain_unless_it_says_otherwise() -> None:
    assert (GET.scope, GET.streams, GET.wakes, GET.status) == (Scope.USER, Streams.NOTHING, False, 200)
