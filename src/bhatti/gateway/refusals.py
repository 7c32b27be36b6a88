"""What callers of a published port are told when it is not the port that answers: a page for people, JSON for programs.

They are strangers: they learn nothing of whose sandbox it is, what it is called, or how it died.
"""

import html

import msgspec
from aiohttp import web

from bhatti.errors import ErrorBody

PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem}}
</style></head><body><h1>{title}</h1><p>{hint}</p></body></html>
"""


class Refusal(Exception):
    """Why a request gets no further, with the HTTP status, the code for programs, and what the caller can do."""

    def __init__(self, status: int, code: str, message: str, hint: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s


def not_published() -> Refusal:
    """Return the answer to a name that no port has: the same whether it never had one or has it no more."""
    return Refusal(404, "not-published", "nothing is published here", "is the address right?")


def not_ready(retry_after_s: int = 2) -> Refusal:
    """Return the answer while the daemon or the sandbox cannot be used."""
    return Refusal(
        503, "unavailable", "this cannot be reached now", "try again in a moment", retry_after_s=retry_after_s
    )


def too_many() -> Refusal:
    """Return the answer to one more than may be served or wait at once."""
    return Refusal(503, "too-many-requests", "too many are here already", "try again in a moment", retry_after_s=2)


def nothing_listens() -> Refusal:
    """Return the answer when there is no web server behind the port, or none that speaks HTTP."""
    return Refusal(502, "bad-gateway", "nothing answers here", "is the server running, and on that port?")


def too_slow() -> Refusal:
    """Return the answer when a sandbox, or a server in it, takes too long."""
    return Refusal(504, "timeout", "this takes too long", "try again later")


def too_large(code: str, what: str, limit_bytes: int) -> Refusal:
    """Return the answer to a request that is larger than may be."""
    status = 431 if code == "headers-too-large" else 413
    return Refusal(status, code, f"{what} is too large", f"at most {limit_bytes} bytes may be sent")


def answer(refusal: Refusal, request: web.BaseRequest) -> web.Response:
    """Return the answer that tells of a refusal, as a page if the caller looks with a browser."""
    if "text/html" in request.headers.get("Accept", ""):
        title = html.escape(refusal.message[0].upper() + refusal.message[1:])
        page = PAGE.format(title=title, hint=html.escape(refusal.hint[0].upper() + refusal.hint[1:]))
        response = web.Response(status=refusal.status, text=page, content_type="text/html")
    else:
        body = ErrorBody(error=refusal.message, code=refusal.code, hint=refusal.hint)
        response = web.Response(status=refusal.status, body=msgspec.json.encode(body), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    return response
