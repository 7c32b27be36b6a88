import io
import json
from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp.test_utils import make_mocked_request
from tests.serving import Served

from bhatti.errors import InvalidRequest
from bhatti.operations import types
from bhatti.operations.table import SANDBOX_CREATE
from bhatti.server.backend import Backend
from bhatti.server.call import MAX_JSON_BYTES, Call, decoded, encoded, json_response


def call(target: str = "/sandboxes", accept: str | None = None) -> Call:
    headers = {} if accept is None else {"Accept": accept}
    backend: Backend = None  # type: ignore[assignment]  # not asked here
    return Call(SANDBOX_CREATE, make_mocked_request("POST", target, headers=headers), backend, "req_1")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/x-ndjson", True),
        ("Application/X-NDJSON; charset=utf-8", True),
        ("text/html, application/x-ndjson;q=0.5, */*", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson ; q=0.0", False),
        ("application/x-ndjsonx", False),
    ],
)
def test_accept_is_a_set_of_types(accept: str | None, wanted: bool) -> None:
    assert call(accept=accept).wants_events() is wanted


def test_parameters_become_what_they_mean() -> None:
    query = call("/x?path=/etc&ls=true&limit=7").query(types.FileQuery)
    assert (query.path, query.ls, query.limit) == ("/etc", True, 7)


@pytest.mark.parametrize("target", ["/x", "/x?path=/a&limit=many", "/x?path=/a&colour=red", "/x?path=/a&path=/b"])
def test_parameters_that_are_not_right_are_named(target: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        call(target).query(types.FileQuery)
    assert caught.value.code == "invalid-field"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "invalid-json"),
        (b"\xff\xfe", "invalid-json"),
        (b'{"name": "\xff"}', "invalid-json"),
        (b'{"env": ' + b"[" * 100_000, "invalid-field"),
        (b'{"name": "' + b"x" * 100, "invalid-json"),
        (b"[]", "invalid-field"),
        (b'{"cpus": "two"}', "invalid-field"),
        (b'{"cpu": 2}', "invalid-field"),
    ],
)
def test_a_body_that_is_not_right_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(raw, types.SandboxCreate)
    assert caught.value.code == code


def test_what_is_no_text_has_a_sign_in_its_place() -> None:
    entry = types.FileEntry(name="caf\udce9 \u00e9", size=1, mode="0644", is_dir=False, mtime=2)
    assert json.loads(encoded([entry]))[0] == {
        "name": "caf\ufffd \u00e9", "size": 1, "mode": "0644", "is_dir": False, "mtime": 2
    }  # fmt: skip


def test_an_answer_is_json() -> None:
    response = json_response(types.Outcome(status="ok"), 201)
    assert (response.status, response.body, response.content_type) == (201, b'{"status":"ok"}', "application/json")


@pytest.mark.anyio
async def test_a_body_is_read_up_to_its_bound(served: Served) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    for body in (io.BytesIO(b" " * (MAX_JSON_BYTES + 1)), endless()):
        async with served.http.post("/sandboxes", data=body) as response:
            assert response.status == 400
            assert (await response.json())["code"] == "body-too-large"


@pytest.mark.anyio
async def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhatti.server.call.BODY_S", 0.1)
    over = anyio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b'{"name": '
        await over.wait()

    async with served.http.post("/sandboxes", data=half()) as response:
        assert (response.status, (await response.json())["code"]) == (400, "body-too-slow")
        over.set()


@pytest.mark.anyio
async def test_no_body_is_an_empty_object(served: Served) -> None:
    async with served.http.post("/sandboxes") as response:
        assert response.status == 201
        assert (await response.json())["name"].startswith("sandbox-")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("media", "code"),
    [
        ("application/json; charset=utf-8", "invalid-field"),
        ("application/merge-patch+json", "invalid-field"),
        ("application/x-www-form-urlencoded", "invalid-field"),
        ("text/plain", "wrong-content-type"),
        ("multipart/form-data; boundary=x", "wrong-content-type"),
        ("application/xml", "wrong-content-type"),
    ],
)
async def test_a_body_is_said_to_be_json_or_nothing_in_particular(served: Served, media: str, code: str) -> None:
    async with served.http.post("/sandboxes", data=b'{"cpu": 2}', headers={"Content-Type": media}) as response:
        assert (response.status, (await response.json())["code"]) == (400, code)
