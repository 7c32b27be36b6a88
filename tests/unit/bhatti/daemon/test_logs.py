import io
import json
import logging
import re

import pytest

from bhatti.daemon import logs
from bhatti.daemon.settings import load
from bhatti.server.call import CURRENT, Current

pytestmark = pytest.mark.usefixtures("root_logger")


def logged(log_format: str, level: str = "info") -> str:
    stream = io.StringIO()
    logs.set_up(load(["state_dir=/x", f"log_format={log_format}", f"log_level={level}"], env={}, files=[]), stream)
    log = logging.getLogger("bhatti.daemon.service")
    log.debug("not shown at info")
    log.info("made %s", "it", extra={"id": "aa", "ms": 5})
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("failed")
    return stream.getvalue()


def test_text_is_one_line_an_event_and_the_traceback_below() -> None:
    first, second, *trace = logged("text").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    daemon.service: made it id=aa ms=5", first)
    assert second.endswith("error   daemon.service: failed")
    assert trace[-1] == "KeyError: 'lost'"


def test_json_is_one_object_an_event() -> None:
    made, failed = (json.loads(line) for line in logged("json").splitlines())
    assert (made["level"], made["logger"], made["message"]) == ("info", "bhatti.daemon.service", "made it")
    assert (made["id"], made["ms"]) == ("aa", 5)
    assert "KeyError: 'lost'" in failed["error"]


def test_the_level_decides_what_is_told() -> None:
    assert "not shown" in logged("text", "debug")
    assert logged("text", "error").count(" daemon.service: ") == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_happens_in_a_request_carries_its_id(log_format: str) -> None:
    before = CURRENT.set(Current("req_0123", "exec"))
    try:
        assert logged(log_format).count("req_0123") == 2
    finally:
        CURRENT.reset(before)
    assert "request_id" not in logged(log_format)
