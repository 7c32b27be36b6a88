import pytest

from bhatti.errors import Busy, Unavailable
from bhatti.operations import table, types
from bhatti.operations.operation import IDEMPOTENCY_KEY
from bhatti.sdk.steps import PAUSES_S, Exchange, Pause, Reply, Step, Steps, called, exchanged


def reply(status: int, body: bytes) -> Reply:
    return Reply(status=status, reason="", headers={}, body=body, whom="somebody")


BUSY = reply(409, b'{"error": "busy", "code": "busy", "kind": "busy"}')
STARTING = reply(503, b'{"error": "wait", "code": "starting"}')


def first(steps: Steps[object]) -> Step:
    return next(steps)


def test_a_call_is_one_exchange_and_its_answer_decoded() -> None:
    steps = called(table.SANDBOX_LIST)
    exchange = first(steps)
    assert isinstance(exchange, Exchange)
    assert (exchange.method, exchange.target) == ("GET", "/sandboxes")
    with pytest.raises(StopIteration) as end:
        steps.send(reply(200, b"[]"))
    assert end.value.value == []


@pytest.mark.parametrize("refusal", [BUSY, STARTING])
def test_what_was_refused_unheard_is_asked_again_after_a_pause(refusal: Reply) -> None:
    exchange = Exchange(method="POST", target="/x")
    steps = exchanged(exchange)
    assert first(steps) is exchange
    assert steps.send(refusal) == Pause(PAUSES_S[0])
    assert steps.send(None) is exchange
    with pytest.raises(StopIteration):
        steps.send(reply(200, b""))


def test_patience_ends() -> None:
    steps = exchanged(Exchange(method="GET", target="/x"))
    first(steps)
    for pause in PAUSES_S:
        assert steps.send(BUSY) == Pause(pause)
        steps.send(None)
    with pytest.raises(Busy):
        steps.send(BUSY)


def test_a_lost_connection_is_tried_again_only_for_what_may_be_done_twice() -> None:
    lost = Unavailable("lost", code="connection-lost")
    steps = exchanged(Exchange(method="GET", target="/x"))
    first(steps)
    assert isinstance(steps.throw(lost), Pause)
    steps = exchanged(Exchange(method="POST", target="/x"))
    first(steps)
    with pytest.raises(Unavailable):
        steps.throw(lost)


def test_a_creation_whose_answer_was_lost_is_asked_for_again_by_the_same_key() -> None:
    steps = called(table.SANDBOX_CREATE, types.SandboxCreate(name="one"))
    asked = first(steps)
    assert isinstance(asked, Exchange)
    assert IDEMPOTENCY_KEY in dict(asked.headers)
    assert isinstance(steps.throw(Unavailable("lost", code="connection-lost")), Pause)
    assert steps.send(None) is asked
    other = first(called(table.SANDBOX_CREATE, types.SandboxCreate(name="one")))
    assert isinstance(other, Exchange)
    assert other.headers != asked.headers
