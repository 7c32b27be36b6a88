"""Who calls, and whether they may: decided here alone, before any handler.

Theory of operation. The decision is about the operation that the router has matched, never about the text of a path:
whatever is written in a path, the handler that runs is the one that was judged. What matches no operation is only told
to callers who are known. On the daemon's own socket the kernel says who the peer is: root, and the user whom the
daemon runs as, are the administrator, whatever their requests say. Anybody else, and everybody on TCP, shows a key in
the header `Authorization`, once, and nowhere else.
"""

import asyncio
import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler as AiohttpHandler
from aiohttp.typedefs import Middleware

from bhatti.errors import Forbidden, Unauthorized
from bhatti.model.user import ADMIN, KEY_PATTERN, NOBODY, Caller
from bhatti.operations.operation import Operation, Scope
from bhatti.server.accounts import Accounts

CALLER = web.RequestKey("caller", Caller)
"""Whom the request is from; there as soon as a handler runs."""

BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
"""RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1), the key's does."""

UCRED = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""

HOW = "send `Authorization: Bearer bht_…`; the command line takes the key from `bhatti setup` or BHATTI_API_KEY"


class UnderWay:
    """The connections on which requests of users are being served, to be cut when a key is."""

    def __init__(self) -> None:
        self._of: dict[str, set[asyncio.BaseTransport]] = {}

    @contextlib.contextmanager
    def noted(self, caller: Caller, request: web.BaseRequest) -> Iterator[None]:
        """Note the request's connection for the block."""
        transport = request.transport
        if transport is None:  # the caller has left already
            yield
            return
        theirs = self._of.setdefault(caller.owner, set())
        theirs.add(transport)
        try:
            yield
        finally:
            theirs.discard(transport)
            if not theirs and self._of.get(caller.owner) is theirs:  # not those of a key that has come meanwhile
                del self._of[caller.owner]

    def cut(self, owner: str) -> None:
        """End every request of `owner` with its connection; what it waits for ends as if the caller had left."""
        for transport in self._of.pop(owner, set()):
            assert isinstance(transport, asyncio.Transport)
            transport.abort()


UNDER_WAY = web.AppKey("under_way", UnderWay)


def guarded(accounts: Accounts, operations: Mapping[object, Operation[object, object]]) -> Middleware:
    """Return the middleware that lets in who may; `operations` are those of the router's handlers."""

    @web.middleware
    async def guard(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        operation = operations.get(request.match_info.handler)
        if operation is not None and operation.scope is Scope.PUBLIC:
            request[CALLER] = ADMIN if is_administrator(request) else NOBODY
            return await handler(request)
        caller = request[CALLER] = identified(request, accounts)
        if caller.admin:
            return await handler(request)
        if operation is not None and operation.scope is Scope.ADMIN:
            raise Forbidden(
                f"{operation.name} is for the administrator, and {caller.name!r} is not",
                hint="it is done on the daemon's machine, over its unix socket",
            )
        accounts.spend(caller, operation)
        with request.app[UNDER_WAY].noted(caller, request):
            return await handler(request)

    return guard


def identified(request: web.BaseRequest, accounts: Accounts) -> Caller:
    """Return whom the request is from; raises `Unauthorized`."""
    if is_administrator(request):
        return ADMIN
    given = request.headers.getall("Authorization", [])
    if not given:
        raise Unauthorized("authorization required", hint=HOW)
    found = BEARER.fullmatch(given[0].strip(" \t")) if len(given) == 1 else None
    if found is None:
        raise Unauthorized("the header Authorization is not one key", hint=HOW)
    if not KEY_PATTERN.fullmatch(found[1]):
        raise Unauthorized("invalid api key", hint="keys begin with bht_ and have 47 characters", code="invalid-key")
    return accounts.identify(found[1])


def is_administrator(request: web.BaseRequest) -> bool:
    """Say whether the request came over a unix socket from root, or from the user whom the daemon runs as."""
    transport = request.transport
    held = transport.get_extra_info("socket") if transport is not None else None
    if held is None or held.family != socket.AF_UNIX:
        return False
    # The event loop lends its socket without this method; its descriptor is borrowed for the moment.
    borrowed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=held.fileno())
    try:
        _, uid, _ = UCRED.unpack(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    finally:
        borrowed.detach()
    return uid in (0, os.geteuid())
