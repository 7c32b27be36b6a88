import time

from tests.unit.lohar.serving import Client, Serving

from lohar.config import AgentConfig
from lohar.wire.frames import FrameType


def test_with_a_token_the_first_frame_must_have_it(serving: Serving) -> None:
    serving.agent.configure(AgentConfig(token="secret"))
    for kind, payload in ((FrameType.AUTH, b"wrong"), (FrameType.AUTH, b""), (FrameType.ACTIVITY_REQ, b"")):
        client = serving.connect()
        client.send(kind, payload)
        assert client.error() == "auth required"
        assert client.receive() == (-1, b"")
    client = serving.connect()
    client.send(FrameType.AUTH, b"secret")
    client.send(FrameType.ACTIVITY_REQ)
    client.expect(FrameType.ACTIVITY_RESP)


def test_without_a_token_auth_is_a_frame_like_any_other_unknown(serving: Serving) -> None:
    client = serving.connect()
    client.send(FrameType.AUTH, b"whatever")
    assert client.error() == "unexpected frame type 0x11"


def test_there_is_a_limit_to_connections(serving: Serving) -> None:
    serving.agent.limits = serving.agent.limits.replace(connections=2)
    kept = [serving.connect(), serving.connect(forward=True)]
    refused = serving.connect()
    assert refused.error() == "connection limit exceeded"
    kept[0].sock.close()
    serving.turn_until(lambda: not serving.agent.connections)
    serving.connect().hello()


def test_using_the_machine_is_activity_and_looking_is_not(serving: Serving, client: Client) -> None:
    serving.agent._last_activity = 1
    for kind, message in (
        (FrameType.EXEC_LIST_REQ, {}),
        (FrameType.FILE_STAT_REQ, {"path": "/"}),
        (FrameType.FACTS_REQ, {}),
    ):
        client.send(kind, **message)
        client.receive()
    assert serving.agent.activity().last_activity_unix == 1
    client.send(FrameType.EXEC_REQ, argv=["true"])
    client.output()
    assert serving.agent.activity().last_activity_unix >= int(time.time()) - 5


def test_facts_list_what_runs(serving: Serving, client: Client) -> None:
    other = serving.connect()
    other.send(FrameType.EXEC_REQ, argv=["cat"])
    serving.turn_until(lambda: serving.agent.commands.running)
    client.send(FrameType.FACTS_REQ)
    facts = client.json(FrameType.FACTS_RESP)
    assert [fact["name"] for fact in facts["processes"]] == ["cat"]
    assert facts["memory_total"] > 0
