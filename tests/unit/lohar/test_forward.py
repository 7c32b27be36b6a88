import json
import socket
import threading

from tests.unit.lohar.serving import Client, Serving

from lohar.config import AgentConfig
from lohar.wire.frames import FrameType


def echo_server(address: str = "127.0.0.1") -> tuple[int, threading.Thread]:
    """Serve one connection: send everything back, then close."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, 0), family=family)

    def serve() -> None:
        with server:
            peer, _ = server.accept()
        with peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    return server.getsockname()[1], thread


def ask(client: Client, port: int) -> dict[str, str]:
    client.send(FrameType.FWD_REQ, port=port)
    answer: dict[str, str] = client.json(FrameType.FWD_RESP)
    return answer


def read(client: Client, size: int) -> bytes:
    data = b""

    def more() -> bool:
        nonlocal data
        try:
            piece = client.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        data += piece
        return not piece or len(data) >= size

    client._serving.turn_until(more)
    return data


def test_bytes_go_both_ways_and_the_end_is_passed_on(serving: Serving) -> None:
    port, thread = echo_server()
    client = serving.connect(forward=True)
    assert ask(client, port) == {"status": "ok"}
    assert serving.agent.facts().forwards == 1
    client.sock.send(b"hello")
    assert read(client, 5) == b"hello"
    client.sock.shutdown(socket.SHUT_WR)
    assert read(client, 1) == b""
    thread.join()
    serving.turn_until(lambda: not serving.agent.forwards)


def test_a_server_on_the_other_loopback_is_found_too(serving: Serving) -> None:
    port, thread = echo_server("::1")
    client = serving.connect(forward=True)
    assert ask(client, port) == {"status": "ok"}
    client.sock.close()
    serving.turn_until(lambda: not serving.agent.forwards)
    thread.join()


def test_a_closed_port_is_refused(serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = ask(serving.connect(forward=True), port)
    assert answer["status"] == "error"
    assert "refused" in answer["message"]


def test_what_is_no_request_is_told_so(serving: Serving) -> None:
    client = serving.connect(forward=True)
    client.send(FrameType.EXEC_REQ, argv=["true"])
    assert json.loads(client.expect(FrameType.FWD_RESP))["message"] == "expected FWD_REQ, got 0x10"
    client = serving.connect(forward=True)
    client.send(FrameType.FWD_REQ, b"{nonsense")
    assert json.loads(client.expect(FrameType.FWD_RESP))["message"].startswith("bad forward request: ")


def test_with_a_token_nothing_is_said_before_it(serving: Serving) -> None:
    serving.agent.configure(AgentConfig(token="secret"))
    client = serving.connect(forward=True)
    client.send(FrameType.FWD_REQ, port=1)
    assert client.error() == "auth required"
    client = serving.connect(forward=True)
    client.send(FrameType.AUTH, b"wrong")
    assert client.error() == "auth required"
    client = serving.connect(forward=True)
    client.send(FrameType.AUTH, b"secret")
    assert ask(client, 1)["status"] == "error"
