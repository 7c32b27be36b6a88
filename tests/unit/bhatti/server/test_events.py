import json

import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_stream_says_what_it_is_and_has_a_document_a_line(served: Served) -> None:
    headers = {"Accept": "application/x-ndjson"}
    async with served.http.post("/sandboxes", json={"name": "one"}, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Request-Id"].startswith("req_")
        lines = (await response.read()).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["type"] for line in lines] == ["stage", "stage", "stage", "sandbox"]
