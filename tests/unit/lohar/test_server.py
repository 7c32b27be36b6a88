import socket

from tests.unit.lohar.isolated import run_isolated
from tests.unit.lohar.serving import Serving

from lohar.server import ACCEPT_AT_ONCE, Listener


def test_a_burst_of_connections_is_accepted(serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        accepted: list[socket.socket] = []
        Listener(serving.loop, server, accepted.append)
        clients = [socket.create_connection(server.getsockname()) for _ in range(3 * ACCEPT_AT_ONCE)]
        serving.turn_until(lambda: len(accepted) == len(clients))
        for sock in (*accepted, *clients):
            sock.close()
        serving.loop.unregister(server.fileno())


def test_an_agent_that_is_told_to_stop_ends_what_it_has_started() -> None:
    output = run_isolated(
        """
        import os, signal, socket, tempfile, threading, time
        from lohar.config import AgentConfig
        from lohar.processes import processes
        from lohar.server import serve
        from lohar.wire.frames import FrameType, encode

        folder = tempfile.TemporaryDirectory()
        path = f"{folder.name}/control"
        control, forward = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        control.bind(path)
        control.listen()
        forward.bind(path + "2")
        forward.listen()
        client = socket.socket(socket.AF_UNIX)

        def ask() -> None:
            client.connect(path)
            request = b'{"argv": ["sh", "-c", "trap \\\\"\\\\" TERM; sleep 60 & echo ready; wait"], "session": true}'
            client.sendall(encode(FrameType.EXEC_REQ, request))
            seen = b""
            while b"ready" not in seen:
                seen += client.recv(4096)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=ask, daemon=True).start()
        began = time.monotonic()
        with folder:
            serve(AgentConfig(), [control], [forward])
        print("served", [stat.name for stat in processes() if stat.parent == os.getpid()])
        """
    )
    assert output == "served []\n"


def test_the_start_up_script_runs_and_readiness_is_told() -> None:
    output = run_isolated(
        """
        import os, signal, socket, tempfile
        from lohar.config import AgentConfig
        from lohar.server import serve

        def ready() -> None:
            print("ready", flush=True)

        with tempfile.TemporaryDirectory() as folder:
            sockets = []
            for name in ("control", "forward"):
                sock = socket.socket(socket.AF_UNIX)
                sock.bind(f"{folder}/{name}")
                sock.listen()
                sockets.append([sock])
            script = f"echo made > {folder}/mark; kill -TERM {os.getpid()}"
            serve(AgentConfig(init=script), *sockets, ready=ready)
            print(open(f"{folder}/mark").read(), end="")
        """
    )
    assert output == "ready\nmade\n"
