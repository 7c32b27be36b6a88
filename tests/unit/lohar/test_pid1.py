import socket

from lohar.pid1 import listen


def test_the_port_is_open_on_tcp_for_everybody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sockets = listen(port)
    try:
        tcp = sockets[0]
        assert tcp.getsockname() == ("0.0.0.0", port)
        with socket.create_connection(("127.0.0.1", port)):
            tcp.accept()[0].close()
        assert {sock.family for sock in sockets[1:]} <= {socket.AF_VSOCK}
    finally:
        for sock in sockets:
            sock.close()
