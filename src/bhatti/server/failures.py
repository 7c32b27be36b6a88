"""How errors reach the caller: always JSON, always with the id under which the log knows them, never a traceback."""

import logging

from aiohttp import web

from bhatti.errors import BhattiError, ErrorBody
from bhatti.server.call import json_response

log = logging.getLogger(__name__)


def answer(error: Exception, request: web.Request, request_id: str) -> web.Response:
    """Return the answer that tells the caller of `error`; what is nobody's fault but ours goes to the log in full."""
    if isinstance(error, BhattiError):
        response = json_response(error.body(request_id), error.http_status)
        if error.http_status == 503:
            response.headers["Retry-After"] = "1"
        return response
    if isinstance(error, web.HTTPException):
        return _of_http(error, request, request_id)
    log.error("defect in %s %s", request.method, request.path, exc_info=error, extra={"request_id": request_id})
    body = ErrorBody(
        error="internal error",
        code="internal",
        hint="this is a defect of bhatti; the daemon's log has the details under the request id",
        request_id=request_id,
    )
    return json_response(body, 500)


def _of_http(error: web.HTTPException, request: web.Request, request_id: str) -> web.Response:
    """Return what the HTTP machinery itself had to say, in our words."""
    shown = request.path if len(request.path) <= 80 else request.path[:77] + "..."
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
        hint = f"there is no operation at {request.method} {shown}"
        return json_response(ErrorBody(error="not found", code="no-such-route", hint=hint, request_id=request_id), 404)
    text = (error.text or error.reason or "refused").removeprefix(f"{error.status}: ")
    return json_response(ErrorBody(error=text, code="invalid-request", request_id=request_id), error.status)
