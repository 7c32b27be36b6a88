"""The application: one route per operation of the table, around them the guard and the error map."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler as AiohttpHandler
from aiohttp.typedefs import Middleware

import bhatti.server.routes
from bhatti.operations import table
from bhatti.operations.operation import Operation
from bhatti.operations.table import ALL, API_REVISION
from bhatti.server import failures
from bhatti.server.backend import Backend
from bhatti.server.call import CURRENT, REQUEST_ID, Call, Current, Handler, json_response
from bhatti.server.guard import CALLER, UNDER_WAY, UnderWay, guarded
from bhatti.server.sockets import OPEN_SOCKETS, OpenSockets

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 32 << 10
"""Of the request line and of each header."""

GIVEN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Ids of callers that are taken over; others could forge lines of the log."""

SELDOM_OF_INTEREST = frozenset({table.HEALTH.name, table.METRICS.name})
"""Asked for every few seconds by machines: logged when everything is."""

REST = "/{rest:.*}"
"""A path that ends so is served with nothing behind it as well."""


OF_SANDBOX = "/sandboxes/{id}"
"""A path that begins so is about one sandbox."""

OFTEN = frozenset({table.EXEC.path, table.FILE_READ.path, table.PROXY.path, table.SANDBOX_GET.path})
"""Paths that are asked for a thousand times a second where others are once: the router tries them first."""


def make_app(backend: Backend, handlers: Mapping[str, Handler] | None = None) -> web.Application:
    """Return the application that serves every operation from `backend`.

    Raises `LookupError` if an operation has no handler, or a handler no operation.
    """
    found = bhatti.server.routes.HANDLERS if handlers is None else handlers
    unknown = set(found) ^ {operation.name for operation in ALL}
    if unknown:
        raise LookupError(f"operations and handlers do not match: {', '.join(sorted(unknown))}")
    version = backend.version().version
    operations: dict[object, Operation[object, object]] = {}
    app = web.Application(
        middlewares=[_errors_told(version, backend), guarded(backend.accounts, operations)],
        # What is packed stays so: a proxy passes it on, and nobody else may have it blown up here.
        handler_args={"max_line_size": MAX_LINE_BYTES, "auto_decompress": False},
        client_max_size=0,
    )
    logging.getLogger("aiohttp.server").addFilter(failures.UNQUOTED)
    app[OPEN_SOCKETS] = OpenSockets()
    app[UNDER_WAY] = UnderWay()
    for operation in sorted(ALL, key=lambda operation: operation.path not in OFTEN):
        # HEAD of a path is an operation of its own where the table has one, and not an echo of GET.
        route = _route(operation, found[operation.name], backend)
        operations[route] = operation
        app.router.add_route(operation.method, operation.path, route)
        if operation.path.endswith(REST):
            app.router.add_route(operation.method, operation.path.removesuffix(REST), route)
    return app


def _route(operation: Operation[object, object], handler: Handler, backend: Backend) -> AiohttpHandler:
    of_sandbox = operation.path.startswith(OF_SANDBOX)

    async def handle(request: web.Request) -> web.StreamResponse:
        CURRENT.set(Current(request[REQUEST_ID], operation.name))
        caller = request[CALLER]
        if of_sandbox:
            # Here and not in the handlers: none of them ever sees what the path says of a sandbox that is not theirs.
            request.match_info["id"] = backend.resolve(caller, request.match_info["id"])
        call = Call(operation, request, backend, request[REQUEST_ID], caller)
        result = await handler(call)
        if isinstance(result, web.StreamResponse):
            return result
        return json_response(result, operation.status)

    return handle


def _errors_told(version: str, backend: Backend) -> Middleware:
    """Return the middleware that gives every request an id, turns every error into an answer, and counts and logs."""

    @web.middleware
    async def tell(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        began = time.monotonic()
        request_id = request[REQUEST_ID] = _request_id(request)
        CURRENT.set(Current(request_id))
        try:
            response = await handler(request)
        except Exception as error:
            if request.writer.output_size:  # half an answer is out: the connection's end must say that it failed
                log.info("broke off %s %s: %r", request.method, request.path, error, extra={"request_id": request_id})
                raise ConnectionAbortedError("the answer broke off") from error
            response = failures.answer(error, request, request_id)
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            response.headers["X-Bhatti-Version"] = version
            response.headers["X-Bhatti-Api"] = API_REVISION
        # When the answer is on its way: nobody waits for the log.
        asyncio.get_running_loop().call_soon(_note, request, response.status, time.monotonic() - began, backend)
        return response

    return tell


def _request_id(request: web.Request) -> str:
    """Return the caller's own id, if it can stand in a log, or a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if GIVEN_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"


def _note(request: web.Request, status: int, seconds: float, backend: Backend) -> None:
    """Count and log an answer."""
    operation = CURRENT.get().operation
    backend.watch.answered(operation, status, seconds)
    level = logging.DEBUG if operation in SELDOM_OF_INTEREST else logging.INFO
    if log.isEnabledFor(level):
        extra = {"status": status, "ms": round(seconds * 1000, 2)}
        log.log(level, "%s %s", request.method, request.path, extra=extra)
