import json

import pytest
from aiohttp.test_utils import make_mocked_request

from bhatti.gateway import refusals
from bhatti.gateway.refusals import Refusal, answer

EVERY = [
    (refusals.not_published(), 404),
    (refusals.not_ready(), 503),
    (refusals.too_many(), 503),
    (refusals.nothing_listens(), 502),
    (refusals.too_slow(), 504),
    (refusals.too_large("body-too-large", "the body", 7), 413),
    (refusals.too_large("headers-too-large", "the head", 7), 431),
]


@pytest.mark.parametrize(("refusal", "status"), EVERY, ids=lambda value: str(getattr(value, "code", value)))
def test_programs_are_told_with_a_code(refusal: Refusal, status: int) -> None:
    response = answer(refusal, make_mocked_request("GET", "/"))
    assert (response.status, response.content_type) == (status, "application/json")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body)["code"] == refusal.code
    assert response.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in response.headers) == (status == 503)


def test_people_are_told_on_a_page_into_which_nothing_can_be_written() -> None:
    refusal = Refusal(404, "x", "<b>", "<script>")
    response = answer(refusal, make_mocked_request("GET", "/", headers={"Accept": "text/html"}))
    assert response.content_type == "text/html"
    assert "<script>" not in (response.text or "")
    assert "&lt;script&gt;" in (response.text or "")
