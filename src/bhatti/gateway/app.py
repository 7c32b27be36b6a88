"""The gateway's application: requests of strangers, passed to published ports, and to nothing else.

Theory of operation. There is one handler for whatever comes, and no route of the API beside it. It finds the site
(`routing`), waits until its sandbox is awake, which is one wake for all who wait, and passes the request on as the
proxy of the API does (`server.exchange`). Every number that a stranger can drive up has a limit; what a stranger says
about whence the request came is not believed; keys of this daemon go no further.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bhatti.errors import BhattiError, GuestFailure
from bhatti.gateway import refusals
from bhatti.gateway.idle import Watched
from bhatti.gateway.limits import Limits
from bhatti.gateway.published import Published, Site
from bhatti.gateway.refusals import Refusal
from bhatti.gateway.routing import Destination, destination
from bhatti.model.user import KEY_PATTERN
from bhatti.server.backend import Visitor
from bhatti.server.call import CURRENT, Current
from bhatti.server.exchange import BodyTooLarge, NoAnswer, exchange, passed
from bhatti.server.tunnels import tunnel
from bhatti.taskgroups import together

log = logging.getLogger(__name__)

OPERATION = "gateway"
"""What the figures and the log call it, beside the operations of the API."""

MAX_LINE_BYTES = 16 << 10
"""Of the request line and of each header; browsers stop at 8 KiB, cookies at 4."""

HEAD_TIMEOUT_S = 30.0
"""For a request's head to come, and between requests on one connection."""


def make_gateway(published: Published, limits: Limits) -> web.Application:
    """Return the application that serves the ports of `published`."""
    gateway = Gateway(published, limits)
    return web.Application(
        # Around everything, not a route: what no route would match is for it to refuse as well.
        middlewares=[_around_everything(gateway)],
        handler_args={
            "max_line_size": MAX_LINE_BYTES,
            "max_field_size": MAX_LINE_BYTES,
            "auto_decompress": False,
            "keepalive_timeout": HEAD_TIMEOUT_S,
        },
        client_max_size=0,
    )


def _around_everything(gateway: "Gateway") -> Middleware:
    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await gateway.handle(request)

    return handle


class Gateway:
    """Passes requests on. One event loop."""

    def __init__(self, published: Published, limits: Limits) -> None:
        self._published = published
        self._limits = limits
        self._open = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request. Safe to cancel."""
        began = time.monotonic()
        CURRENT.set(Current(f"req_{secrets.token_hex(8)}", OPERATION))
        try:
            response = await self._served(request)
        except Refusal as refusal:
            if request.writer.output_size:
                raise ConnectionAbortedError("the answer broke off") from refusal
            response = refusals.answer(refusal, request)
        self._published.answered(response.status, time.monotonic() - began)
        log.debug("%s", request.method, extra={"status": response.status, "host": request.headers.get("Host", "")[:80]})
        return response

    async def _served(self, request: web.Request) -> web.StreamResponse:
        site, going = self._found(request)
        if going.moved is not None and request.method in ("GET", "HEAD"):
            return web.Response(status=308, headers={"Location": going.moved})
        self._check_size(request)
        if self._open >= self._limits.max_open:
            raise refusals.too_many()
        self._open += 1
        try:
            with site.serving():
                return await self._passed_on(request, site, going)
            raise refusals.not_published()  # while it was being served
        finally:
            self._open -= 1

    def _found(self, request: web.Request) -> tuple[Site, Destination]:
        going = destination(request.headers.getall("Host", []), request.raw_path, self._limits.domain)
        try:
            site = None if going is None else self._published.find(going.alias)
        except BhattiError as err:
            raise refusals.not_ready() from err
        if going is None or site is None:
            raise refusals.not_published()
        return site, going

    def _check_size(self, request: web.Request) -> None:
        if sum(len(name) + len(value) for name, value in request.raw_headers) > self._limits.max_header_bytes:
            raise refusals.too_large("headers-too-large", "the head of the request", self._limits.max_header_bytes)
        if (request.content_length or 0) > self._limits.max_body_bytes:
            raise refusals.too_large("body-too-large", "the body of the request", self._limits.max_body_bytes)

    async def _passed_on(self, request: web.Request, site: Site, going: Destination) -> web.StreamResponse:
        headers = list(self._headers(request, site, going))
        async with self._awake(site) as visitor:
            try:
                async with tunnel(visitor, site.port) as stream, together() as tasks:
                    watched = Watched(stream)
                    tasks.start_soon(watched.expire, self._limits.idle_timeout_s, tasks.cancel_scope)
                    response = await exchange(
                        request, watched, going.target, headers, max_body_bytes=self._limits.max_body_bytes
                    )
                    tasks.cancel_scope.cancel()
                    return response
                raise refusals.too_slow()
            except BodyTooLarge as err:
                limit = self._limits.max_body_bytes
                raise refusals.too_large("body-too-large", "the body of the request", limit) from err
            except (NoAnswer, GuestFailure) as err:
                raise refusals.nothing_listens() from err
            except BhattiError as err:
                raise refusals.not_ready() from err

    @contextlib.asynccontextmanager
    async def _awake(self, site: Site) -> AsyncIterator[Visitor]:
        """Let a request into a site's sandbox, which is awake then and stays so for the block, and give it a place."""
        if site.waiting >= self._limits.max_waiting:
            raise refusals.too_many()
        site.waiting += 1
        async with contextlib.AsyncExitStack() as stack:
            try:
                with anyio.fail_after(self._limits.wake_timeout_s):
                    visitor = await stack.enter_async_context(self._published.enter(site))
                    await stack.enter_async_context(site.places)
            except TimeoutError as err:
                raise refusals.too_slow() from err
            except BhattiError as err:
                log.info("no way into a published sandbox: %s", err.message)
                raise refusals.not_ready() from err
            finally:
                site.waiting -= 1
            yield visitor

    def _headers(self, request: web.Request, site: Site, going: Destination) -> Iterator[tuple[str, str]]:
        yield "Host", f"localhost:{site.port}"
        for name, value in passed(request):
            # The header is the site's own, but for a key of this daemon that was shown to the wrong door.
            if name.lower() != "authorization" or not KEY_PATTERN.search(value):
                yield name, value
        given = request.headers if self._limits.trust_forwarded else {}
        before = given.get("X-Forwarded-For", "")
        yield "X-Forwarded-For", f"{before}, {request.remote}" if before else request.remote or ""
        yield "X-Forwarded-Host", given.get("X-Forwarded-Host") or request.headers["Host"]
        yield "X-Forwarded-Proto", given.get("X-Forwarded-Proto") or request.scheme
        if going.prefix:
            yield "X-Forwarded-Prefix", given.get("X-Forwarded-Prefix", "").rstrip("/") + going.prefix
