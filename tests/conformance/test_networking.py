"""Engine integration tests, Networking: cross-VM communication, IP allocation, guest to gateway, TAP cleanup."""

import anyio
import pytest
from tests.conformance.conftest import Create, Sandbox

from bhatti.engines.base import Engine
from bhatti.guestlink.commands import Stdout

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]

ECHO_ONCE = (
    "import socket; s = socket.create_server(('0.0.0.0', 7777)); print('listening', flush=True);"
    " c, a = s.accept(); c.sendall(c.recv(100).upper()); c.close()"
)
ASK = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5);"
    " s.sendall(b'hello'); print(s.recv(100).decode())"
)


@pytest.fixture
def bridged(engine: Engine) -> None:
    if not engine.capabilities.bridge_network:
        pytest.skip("the engine has no bridge here: guests cannot reach each other")


@pytest.mark.usefixtures("bridged")
async def test_guests_have_different_addresses_and_both_know_theirs(pair: tuple[Sandbox, Sandbox]) -> None:
    addresses = [sandbox.machine.address for sandbox in pair]
    assert len(set(addresses)) == 2
    for sandbox in pair:
        result = await sandbox.link.exec(["ip", "-4", "-br", "address", "show", "dev", "eth0"])
        assert sandbox.machine.address is not None
        assert f"{sandbox.machine.address}/" in result.stdout.decode()


@pytest.mark.usefixtures("bridged")
@pytest.mark.parametrize("direction", ["there", "back"])
async def test_two_guests_ping_each_other(pair: tuple[Sandbox, Sandbox], direction: str) -> None:
    """Cross-VM communication (two VMs ping each other)."""
    source, target = pair if direction == "there" else pair[::-1]
    result = await source.link.exec(["ping", "-c", "1", "-W", "5", str(target.machine.address)], timeout_s=20)
    assert result.exit_code == 0, result.stdout + result.stderr


@pytest.mark.usefixtures("bridged")
async def test_two_guests_talk_tcp(pair: tuple[Sandbox, Sandbox]) -> None:
    source, target = pair
    async with target.link.stream(["python3", "-c", ECHO_ONCE]) as server:
        async for event in server:
            if isinstance(event, Stdout) and b"listening" in event.data:
                break
        result = await source.link.exec(["python3", "-c", ASK, str(target.machine.address), "7777"], timeout_s=20)
    assert result.stdout == b"HELLO\n", result.stderr


@pytest.mark.usefixtures("bridged")
async def test_a_guest_reaches_its_gateway_on_the_host(box: Sandbox) -> None:
    """The bridge answers pings, and a server of the host on it is reached by TCP."""
    route = await box.link.exec(["ip", "-4", "route", "show", "default"])
    gateway = route.stdout.split()[2].decode()
    assert gateway.rpartition(".")[0] == str(box.machine.address).rpartition(".")[0]
    ping = await box.link.exec(["ping", "-c", "1", "-W", "5", gateway], timeout_s=20)
    assert ping.exit_code == 0, ping.stdout

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send((await stream.receive()).upper())

    async with await anyio.create_tcp_listener(local_host=gateway) as listener, anyio.create_task_group() as tasks:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, answer)
        result = await box.link.exec(["python3", "-c", ASK, gateway, str(port)], timeout_s=20)
        tasks.cancel_scope.cancel()
    assert result.stdout == b"HELLO\n", result.stderr


@pytest.mark.usefixtures("bridged")
async def test_the_host_reaches_a_port_of_the_guest(box: Sandbox) -> None:
    async with box.link.stream(["python3", "-c", ECHO_ONCE]) as server:
        async for event in server:
            if isinstance(event, Stdout) and b"listening" in event.data:
                break
        async with await anyio.connect_tcp(str(box.machine.address), 7777) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"HELLO"


@pytest.mark.usefixtures("bridged")
async def test_an_address_is_used_again_and_works_again(engine: Engine, create: Create) -> None:
    """IP allocation/release/reuse, and TAP cleanup after destroy (by the fixture that compares the host)."""
    first = await create("first")
    await engine.destroy(first.spec.id)
    second = await create("second")
    assert second.machine.address == first.machine.address
    assert (await second.link.exec(["hostname"])).stdout == b"second\n"
