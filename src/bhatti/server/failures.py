"""How errors reach the caller: always JSON, always with the id under which the log knows them, never a traceback."""

import errno
import logging
import math

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bhatti.errors import BhattiError, ErrorBody, LimitExceeded, Unavailable, shortened
from bhatti.server.call import json_response

log = logging.getLogger(__name__)


class Unquoted(logging.Filter):
    """For the logger of aiohttp, which quotes the line that it cannot parse: that may be the one with the key."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, without what the caller sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = f"{record.msg}: not HTTP (%s)", (*_arguments(record), type(error).__name__)
            record.exc_info = record.exc_text = None
        return True


UNQUOTED = Unquoted()
"""One for all applications: added twice, it is there once."""


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def answer(error: Exception, request: web.Request, request_id: str) -> web.Response:
    """Return the answer that tells the caller of `error`."""
    if isinstance(error, web.HTTPException):
        return _of_http(error, request, request_id)
    told = ours(error, request, request_id)
    response = json_response(told.body(request_id), told.http_status)
    if told.http_status == 503:
        response.headers["Retry-After"] = "1"
    elif isinstance(told, LimitExceeded) and told.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(told.retry_after_s)))
    elif told.http_status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def ours(error: Exception, request: web.Request, request_id: str) -> BhattiError:
    """Return `error` if it is one of ours, or what we say of a host that gives no more descriptors. Anything else is a
    defect: it goes to the log in full, the caller gets a line and the id under which the log knows it."""
    if isinstance(error, BhattiError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            f"the daemon cannot open more files and connections: {error.strerror}",
            hint="end some connections, or give it more: `LimitNOFILE` of its service, or `ulimit -n` before it starts",
            code="too-many-open-files",
        )
    log.error("defect in %s %s", request.method, request.path, exc_info=error, extra={"request_id": request_id})
    hint = f"this is a defect of bhatti; the daemon's log has the details under {request_id}"
    return BhattiError("internal error", hint=hint)


def _of_http(error: web.HTTPException, request: web.Request, request_id: str) -> web.Response:
    """Return what the HTTP machinery itself had to say, in our words."""
    shown = shortened(request.path)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        body = ErrorBody(
            error="method not allowed",
            code="method-not-allowed",
            hint=f"{shown} knows {allowed}",
            request_id=request_id,
        )
        response = json_response(body, 405)
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, web.HTTPNotFound):
        hint = f"there is no operation at {request.method} {shown}; /docs and /openapi.json have all there are"
        return json_response(ErrorBody(error="not found", code="no-such-route", hint=hint, request_id=request_id), 404)
    text = (error.text or error.reason or "refused").removeprefix(f"{error.status}: ")
    return json_response(ErrorBody(error=text, code="invalid-request", request_id=request_id), error.status)
