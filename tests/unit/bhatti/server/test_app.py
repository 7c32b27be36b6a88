import asyncio
import json
import logging

import pytest
from tests.serving import Served

from bhatti.server.app import make_app
from bhatti.server.routes import HANDLERS

pytestmark = pytest.mark.anyio


async def test_an_operation_without_a_handler_is_noticed_at_the_start(served: Served) -> None:
    handlers = dict(HANDLERS)
    del handlers["exec"]
    with pytest.raises(LookupError, match="exec"):
        make_app(served.service, handlers)


async def test_a_handler_without_an_operation_is_noticed_at_the_start(served: Served) -> None:
    with pytest.raises(LookupError, match="dance"):
        make_app(served.service, {**HANDLERS, "dance": HANDLERS["exec"]})


async def test_every_answer_has_an_id_and_says_which_version_made_it(served: Served) -> None:
    ids = set()
    for path in ("/health", "/nowhere", "/sandboxes/nobody"):
        async with served.http.get(path) as response:
            ids.add(response.headers["X-Request-Id"])
            assert response.headers["X-Bhatti-Version"] == "0.0-test"
            assert response.headers["X-Bhatti-Api"] == "1"
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no-such-route"),
        ("GET", "/sandboxes/", 404, "no-such-route"),
        ("GET", "/sandboxes/x/nothing", 404, "no-such-route"),
        ("DELETE", "/health", 405, "method-not-allowed"),
        ("PATCH", "/sandboxes", 405, "method-not-allowed"),
        ("GET", "/sandboxes/nobody", 404, "sandbox-not-found"),
        ("GET", "/sandboxes/..%2Fhealth", 404, "sandbox-not-found"),
        ("GET", "/sandboxes/%00", 404, "sandbox-not-found"),
        ("GET", "/sandboxes/" + "x" * 5000, 404, "sandbox-not-found"),
    ],
)
async def test_errors_are_json(served: Served, method: str, path: str, status: int, code: str) -> None:
    async with served.http.request(method, path) as response:
        assert response.status == status
        body = await response.json()
    assert body["code"] == code
    assert body["error"]
    assert body["request_id"].startswith("req_")


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00",
    ],
)
async def test_what_is_not_http_is_refused_without_a_traceback(
    served: Served, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.settings.socket))
    writer.write(raw)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    assert b"Traceback" not in answer
    assert answer == b"" or answer.split()[1] in (b"400", b"404", b"414", b"431", b"505")
    async with served.http.get("/health") as response:
        assert response.status == 200


async def test_a_defect_is_an_answer_too(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def health() -> None:
        raise KeyError("oops")

    monkeypatch.setattr(served.service, "health", health)
    async with served.http.get("/health") as response:
        assert response.status == 500
        assert (await response.json())["code"] == "internal"
    assert "oops" in caplog.text


async def test_requests_are_logged_when_asked_for(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "bhatti.server.app"):
        async with served.http.get("/health"):
            pass
    assert "GET /health" in caplog.text
    assert caplog.records[-1].__dict__["status"] == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [("agent.7:retry-1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)],
)
async def test_the_callers_own_id_is_kept_if_it_can_stand_in_a_log(
    served: Served, caplog: pytest.LogCaptureFixture, given: str, kept: bool
) -> None:
    with caplog.at_level(logging.INFO, "bhatti.server.app"):
        async with served.http.get("/version", headers={"X-Request-Id": given}) as response:
            assert (response.headers["X-Request-Id"] == given) is kept


async def test_what_machines_ask_every_second_is_told_when_everything_is(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bhatti.server.app"):
        for path in ("/health", "/version"):
            async with served.http.get(path):
                pass
    assert [record.getMessage() for record in caplog.records] == ["GET /version"]


async def test_the_id_of_an_error_is_the_one_of_the_answer(served: Served) -> None:
    async with served.http.get("/nowhere") as response:
        assert json.loads(await response.text())["request_id"] == response.headers["X-Request-Id"]
