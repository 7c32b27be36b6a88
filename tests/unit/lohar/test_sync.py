from tests.unit.lohar.serving import Client

from lohar.wire.frames import FrameType


def test_the_answer_comes_when_the_disks_have_everything(client: Client) -> None:
    client.send(FrameType.SYNC_REQ)
    assert client.json(FrameType.SYNC_RESP)["duration_ms"] >= 0
    client.send(FrameType.ACTIVITY_REQ)
    client.expect(FrameType.ACTIVITY_RESP)


def test_a_client_that_leaves_meanwhile_hurts_nobody(client: Client) -> None:
    serving = client._serving
    other = serving.connect()
    other.send(FrameType.SYNC_REQ)
    serving.turn_until(lambda: any(found.operation for found in serving.agent.connections))
    other.sock.close()
    client.send(FrameType.SYNC_REQ)
    client.expect(FrameType.SYNC_RESP)
