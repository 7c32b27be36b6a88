"""Any HTTP request, passed to a port inside the sandbox and back."""

import re
from collections.abc import Iterator

from aiohttp import web

from bhatti.errors import ErrorBody, GuestFailure
from bhatti.operations import table
from bhatti.server.call import Call, Handler, json_response
from bhatti.server.exchange import NoAnswer, exchange, passed
from bhatti.server.guest import HINTS, inside
from bhatti.server.routes.ports import port_of
from bhatti.server.tunnels import tunnel

PREFIX = re.compile(r"/sandboxes/[^/?]+/proxy/[^/?]+")


async def pass_on(call: Call) -> web.StreamResponse:
    """Pass one request on, and its answer back; an upgrade makes it a raw connection both ways."""
    port = port_of(call)
    async with inside(call) as visitor:
        try:
            async with tunnel(visitor, port) as stream:
                return await exchange(call.request, stream, _target(call.request.raw_path), _headers(call, port))
        except GuestFailure as err:
            return _bad_gateway(call, f"tunnel failed: {err.message}")
        except NoAnswer as err:
            return _bad_gateway(call, f"bad gateway: {err}")


def _headers(call: Call, port: int) -> Iterator[tuple[str, str]]:
    yield "Host", f"localhost:{port}"
    for name, value in passed(call.request):
        # What a key opened is bhatti's: code in a guest must not get hold of it. Over the socket it is the guest's own.
        if name.lower() != "authorization" or call.caller.admin:
            yield name, value
    yield "X-Forwarded-Host", call.request.headers.get("Host", "")
    yield "X-Forwarded-Proto", call.request.scheme


def _target(raw_path: str) -> str:
    """Return the part of the path behind the port, exactly as it was written."""
    rest = PREFIX.sub("", raw_path, count=1)
    return rest if rest.startswith("/") else f"/{rest}"


def _bad_gateway(call: Call, text: str) -> web.Response:
    hint = HINTS["connection-refused"]
    return json_response(ErrorBody(error=text, code="bad-gateway", hint=hint, request_id=call.request_id), 502)


HANDLERS: dict[str, Handler] = {table.PROXY.name: pass_on}
