import errno
import logging
import os

import msgspec
import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.test_utils import make_mocked_request

from bhatti.errors import ErrorBody, LimitExceeded, MissingDependency, NotFound, Unauthorized, Unavailable
from bhatti.server import failures


def told(error: Exception, path: str = "/x") -> tuple[web.Response, ErrorBody]:
    response = failures.answer(error, make_mocked_request("GET", path), "req_1")
    assert isinstance(response.body, bytes)
    return response, msgspec.json.decode(response.body, type=ErrorBody)


def test_our_errors_say_all_they_know() -> None:
    response, body = told(NotFound("no sandbox 'x'", hint="bhatti ls", code="sandbox-not-found"))
    assert response.status == 404
    assert body == ErrorBody("no sandbox 'x'", "sandbox-not-found", "bhatti ls", "req_1", "not-found")


def test_what_may_work_in_a_moment_says_so() -> None:
    assert told(Unavailable("starting"))[0].headers["Retry-After"] == "1"
    assert told(MissingDependency("qemu"))[0].headers["Retry-After"] == "1"


def test_a_defect_goes_to_the_log_and_not_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response, body = told(KeyError("the secret"))
    assert response.status == 500
    assert body.code == "internal"
    assert b"secret" not in response.body  # type: ignore[operator]
    assert "the secret" in caplog.text
    assert caplog.records[0].__dict__["request_id"] == "req_1"


def test_a_host_without_descriptors_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    for number in (errno.EMFILE, errno.ENFILE):
        response, body = told(OSError(number, os.strerror(number)))
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (body.code, os.strerror(number) in body.error) == ("too-many-open-files", True)
    assert caplog.text == ""


def test_a_path_that_is_none_is_told_shortly() -> None:
    response, body = told(web.HTTPNotFound(), "/" + "x" * 10_000)
    assert (response.status, body.code) == (404, "no-such-route")
    assert len(body.hint or "") < 250
    assert "/openapi.json" in (body.hint or "")


def test_a_method_that_is_none_is_told_with_those_that_are() -> None:
    response, body = told(web.HTTPMethodNotAllowed("PATCH", ["POST", "GET"]))
    assert (response.status, body.code, response.headers["Allow"]) == (405, "method-not-allowed", "GET, POST")


def test_what_else_http_has_to_say_is_json_too() -> None:
    response, body = told(web.HTTPBadRequest(text="No WebSocket UPGRADE hdr"))
    assert (response.status, body.error) == (400, "No WebSocket UPGRADE hdr")


def test_who_came_too_often_is_told_when_to_come_again() -> None:
    assert told(LimitExceeded("slowly", retry_after_s=2.1))[0].headers["Retry-After"] == "3"
    assert told(LimitExceeded("slowly", retry_after_s=0.01))[0].headers["Retry-After"] == "1"
    assert "Retry-After" not in told(LimitExceeded("no more"))[0].headers


def test_who_shows_no_key_is_told_what_kind_is_wanted() -> None:
    assert told(Unauthorized("who?"))[0].headers["WWW-Authenticate"] == "Bearer"


def test_what_the_parser_quotes_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test.parser")
    log.addFilter(failures.UNQUOTED)
    for error in (BadHttpMessage("Authorization : Bearer bht_secret"), ValueError("ours")):
        log.error("from %s", "127.0.0.1", exc_info=error)
    assert "from 127.0.0.1: not HTTP (BadHttpMessage)" in caplog.text
    assert "bht_secret" not in caplog.text
    assert "ValueError: ours" in caplog.text
