"""Ports of sandboxes: who listens, and connections to them."""

import contextlib

import anyio
from aiohttp import web

from bhatti.errors import BhattiError, InvalidRequest
from bhatti.guestlink.ports import listening
from bhatti.model.sandbox import Temperature
from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.guest import entered, inside
from bhatti.server.relay import Connection, Hijacked, carried
from bhatti.server.tunnels import tunnel

PROTOCOL = "tcp"
"""What a forwarded connection is called in `Upgrade`."""


async def list_all_of_one(call: Call) -> list[types.ListeningPort]:
    """List the ports of one sandbox."""
    async with entered(call) as link:
        found = await listening(link)
    return [
        types.ListeningPort(container_port=port, proxy_url=_proxy_url(call.ref, port), addresses=addresses)
        for port, addresses in found.items()
    ]


async def list_all(call: Call) -> list[types.SandboxPort]:
    """List the ports of all sandboxes that are hot; nobody is woken for a list."""
    everything = await call.backend.sandboxes(caller=call.caller)
    sandboxes = [sandbox for sandbox in everything if sandbox.thermal is Temperature.HOT]
    ports: dict[str, list[types.SandboxPort]] = {}
    async with anyio.create_task_group() as tasks:
        for sandbox in sandboxes:
            tasks.start_soon(_look, call, sandbox, ports)
    return [port for sandbox in sandboxes for port in ports.get(sandbox.id, [])]


async def _look(call: Call, sandbox: types.Sandbox, ports: dict[str, list[types.SandboxPort]]) -> None:
    # One that ends, or does not answer, while others are asked has no ports to tell of.
    with contextlib.suppress(BhattiError):
        async with call.backend.visit(sandbox.id, f"{call.operation.name} is under way", wake=False) as visitor:
            ports[sandbox.id] = [
                types.SandboxPort(
                    container_port=port,
                    proxy_url=_proxy_url(sandbox.id, port),
                    addresses=addresses,
                    sandbox_id=sandbox.id,
                    sandbox=sandbox.name,
                )
                for port, addresses in (await listening(visitor.link)).items()
            ]


async def forward(call: Call) -> web.StreamResponse:
    """Make the caller's connection one to a port of the sandbox."""
    port = port_of(call)
    if call.request.headers.get("Upgrade", "").lower() != PROTOCOL:
        raise InvalidRequest(
            "a forwarded connection begins with an upgrade",
            hint=f"send `Connection: Upgrade` and `Upgrade: {PROTOCOL}`; `bhatti forward` does",
            code="upgrade-required",
        )
    async with inside(call) as visitor, tunnel(visitor, port) as stream:
        connection = Connection.take(call.request)
        head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        await connection.send(f"{head}X-Request-Id: {call.request_id}\r\n\r\n".encode())
        await carried(connection, stream)
    return Hijacked()


def port_of(call: Call) -> int:
    """Return the port that the path names; raises `InvalidRequest` (code `invalid-port`)."""
    text = call.request.match_info["port"]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise InvalidRequest(f"invalid port {text[:20]!r}", hint="a port is 1 to 65535", code="invalid-port")
    return int(text)


def _proxy_url(sandbox_id: str, port: int) -> str:
    return f"/sandboxes/{sandbox_id}/proxy/{port}/"


HANDLERS: dict[str, Handler] = {
    table.PORT_LIST.name: list_all_of_one,
    table.PORT_LIST_ALL.name: list_all,
    table.FORWARD.name: forward,
}
