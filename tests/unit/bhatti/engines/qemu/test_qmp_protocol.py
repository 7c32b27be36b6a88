import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.engines.qemu.qmp_protocol import Event, Message, QmpProtocol, Ready, Reply, State
from bhatti.errors import Conflict, EngineFailure

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"},'
    b' "capabilities": ["oob"]}}\r\n'
)


def ready() -> QmpProtocol:
    protocol = QmpProtocol()
    protocol.receive_data(GREETING)
    protocol.data_to_send()
    assert protocol.receive_data(b'{"return": {}, "id": 1}\r\n') == [Ready("7.2.22")]
    return protocol


def test_the_greeting_is_answered_with_capabilities_and_then_commands_may_be_sent() -> None:
    protocol = QmpProtocol()
    assert protocol.receive_data(GREETING) == []
    assert protocol.state == "negotiating"
    assert msgspec.json.decode(protocol.data_to_send()) == {"execute": "qmp_capabilities", "id": 1}
    assert protocol.data_to_send() == b""
    assert protocol.receive_data(b'{"return": {}, "id": 1}\r\n') == [Ready("7.2.22")]
    assert protocol.state == "ready"


def test_a_command_carries_its_id_and_its_arguments() -> None:
    protocol = ready()
    first, second = protocol.execute("stop"), protocol.execute("getfd", {"fdname": "x"})
    lines = [msgspec.json.decode(line) for line in protocol.data_to_send().splitlines()]
    assert lines == [
        {"execute": "stop", "id": first},
        {"execute": "getfd", "id": second, "arguments": {"fdname": "x"}},
    ]
    assert first != second


def test_replies_errors_and_events_are_told_apart() -> None:
    protocol = ready()
    assert protocol.receive_data(
        b'{"return": [1], "id": 2}\r\n'
        b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n'
        b'{"event": "SHUTDOWN", "data": {"guest": true}}\r\n'
        b'{"id": 3, "error": {"class": "GenericError", "desc": "no"}}\r\n'
    ) == [
        Reply(2, value=[1]),
        Event("STOP"),
        Event("SHUTDOWN", {"guest": True}),
        Reply(3, error_class="GenericError", description="no"),
    ]


@pytest.mark.parametrize("state", ["awaiting-greeting", "negotiating", "closed"])
def test_a_command_at_the_wrong_time_is_a_conflict_that_names_the_state(state: str) -> None:
    protocol = QmpProtocol()
    if state == "negotiating":
        protocol.receive_data(GREETING)
    elif state == "closed":
        protocol.receive_end()
    with pytest.raises(Conflict, match=state) as caught:
        protocol.execute("stop")
    assert caught.value.code == "monitor-not-ready"


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"return": {}}',
        b'{"error": {"class": "GenericError"}, "id": 1}',
        b'{"return": {}, "id": "x"}',
        b'{"QMP": {}}',
        b'{"event": "STOP", "data": 7}',
        b"\xff\xfe",
    ],
)
def test_what_no_qemu_sends_ends_the_connection(line: bytes) -> None:
    protocol = ready()
    with pytest.raises(EngineFailure, match="does not speak QMP") as caught:
        protocol.receive_data(line + b"\r\n")
    assert caught.value.code == "monitor-protocol"
    assert protocol.state is State.CLOSED


def test_a_reply_before_the_greeting_is_a_breach() -> None:
    with pytest.raises(EngineFailure, match="while awaiting-greeting"):
        QmpProtocol().receive_data(b'{"return": {}, "id": 1}\n')


def test_a_greeting_without_a_version_is_a_breach() -> None:
    with pytest.raises(EngineFailure):
        QmpProtocol().receive_data(b'{"QMP": {"capabilities": []}}\n')


def test_a_line_without_end_is_bounded() -> None:
    protocol = QmpProtocol(max_line_bytes=100)
    protocol.receive_data(b"x" * 100)
    with pytest.raises(EngineFailure, match="more than 100 bytes"):
        protocol.receive_data(b"x")


def test_the_end_may_come_at_any_time_and_twice() -> None:
    protocol = ready()
    protocol.receive_end()
    protocol.receive_end()
    assert protocol.state is State.CLOSED


@given(st.data())
def test_chunking_does_not_change_the_messages(data: st.DataObject) -> None:
    stream = GREETING + b'{"return": {}, "id": 1}\r\n{"event": "RESUME"}\r\n{"return": {"a": "\xc3\xa4"}, "id": 2}\r\n'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    protocol = QmpProtocol()
    messages: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        messages += protocol.receive_data(stream[start:end])
    assert messages == [Ready("7.2.22"), Event("RESUME"), Reply(2, value={"a": "ä"})]


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["QMP", "return", "error", "event", "id"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["QMP", "return", "error", "event", "id", "data", "class"]), inner)
        ),
        max_leaves=8,
    ).map(msgspec.json.encode)
)
def test_anything_is_understood_or_refused_with_the_documented_error(garbage: bytes) -> None:
    protocol = ready()
    with contextlib.suppress(EngineFailure):
        protocol.receive_data(garbage + b"\n")
        assert protocol.state is State.READY
    assert protocol.state in (State.READY, State.CLOSED)
