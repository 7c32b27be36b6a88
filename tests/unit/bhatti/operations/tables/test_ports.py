from bhatti.operations.operation import Scope, Streams
from bhatti.operations.tables.ports import FORWARD, OPERATIONS, PORT_LIST_ALL, PROXY


def test_they_are_the_owner_s_and_wake_what_they_enter() -> None:
    assert {operation.scope for operation in OPERATIONS} == {Scope.USER}
    assert [operation for operation in OPERATIONS if not operation.wakes] == [PORT_LIST_ALL]


def test_ways_in_carry_what_is_somebody_else_s() -> None:
    assert (FORWARD.streams, FORWARD.status) == (Streams.TUNNEL, 101)
    assert (PROXY.streams, PROXY.method) == (Streams.RELAY, "*")
