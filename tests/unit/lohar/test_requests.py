import base64

import pytest
from tests.unit.lohar.serving import Client, Serving

from lohar.requests import HANDLERS
from lohar.wire.frames import FrameType
from lohar.wire.messages import FEATURES


@pytest.mark.parametrize("kind", [0x00, 0x02, FrameType.CONFIG_REQ, FrameType.SYSTEMCTL_REQ, 0x7F, 0xFF])
def test_what_nobody_serves_is_refused_by_its_number(serving: Serving, kind: int) -> None:
    client = serving.connect()
    client.send(kind)
    assert client.error() == f"unexpected frame type 0x{kind:02x}"


EMPTY_IS_FINE = {FrameType.EXEC_LIST_REQ, FrameType.ACTIVITY_REQ, FrameType.FACTS_REQ, FrameType.SYNC_REQ}


@pytest.mark.parametrize("kind", sorted(set(HANDLERS) - EMPTY_IS_FINE))
def test_a_malformed_request_is_called_by_its_name(serving: Serving, kind: int) -> None:
    client = serving.connect()
    client.send(kind, b"{nonsense")
    assert client.error().startswith(f"bad {HANDLERS[kind][0]} request: ")


@pytest.mark.parametrize("kind", sorted(EMPTY_IS_FINE))
def test_a_question_needs_no_words(serving: Serving, kind: int) -> None:
    client = serving.connect()
    client.send(kind)
    assert client.receive()[0] == kind + 1


def test_hello_says_what_there_is_and_keeps_the_connection(client: Client) -> None:
    hello = client.hello()
    assert hello["revision"] == 2
    assert hello["features"] == [str(feature) for feature in FEATURES]
    assert hello["limits"]["frame_length"] == 1 << 20
    client.send(FrameType.FILE_STAT_REQ, path="/")
    assert client.json(FrameType.FILE_STAT_RESP)["is_dir"]


def test_who_never_says_hello_gets_one_request_for_each_connection(serving: Serving) -> None:
    client = serving.connect()
    client.send(FrameType.FILE_STAT_REQ, path="/")
    client.expect(FrameType.FILE_STAT_RESP)
    assert client.receive() == (-1, b""), "closed by the agent"


def test_an_empty_command_is_refused(client: Client) -> None:
    client.send(FrameType.EXEC_REQ, argv=[])
    assert client.error() == "empty argv"


def test_resumed_closes_the_other_connections(serving: Serving, client: Client) -> None:
    other = serving.connect()
    other.hello()
    client.send(FrameType.RESUMED_REQ, clock_ns=1, entropy=base64.b64encode(bytes(32)).decode(), generation=0)
    assert client.json(FrameType.RESUMED_RESP)["closed_connections"] == 1
    assert other.receive() == (-1, b"")
