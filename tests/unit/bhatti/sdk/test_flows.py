"""Flows against a daemon are in sync/; here is what no honest daemon answers."""

import datetime

import pytest

from bhatti.errors import InvalidRequest, LimitExceeded, Unavailable
from bhatti.model.sandbox import Status, Temperature
from bhatti.operations import types
from bhatti.sdk.flows import MAX_DEPTH, Flows, as_bytes, exec_request, injected
from bhatti.sdk.steps import Exchange, Local, Reply, Steps

INFO = types.Sandbox(
    id="s1",
    name="one",
    status=Status.RUNNING,
    thermal=Temperature.HOT,
    image="base",
    cpus=1,
    memory_mb=1,
    disk_size_mb=1,
    created_at=datetime.datetime.now(datetime.UTC),
    engine="local",
    engine_id="x",
)


def directory_of(name: str, steps: Steps[None]) -> list[str]:
    """Answer as a sandbox in which everything is a directory with `name` in it; return what was asked for."""
    asked, outcome = [], None
    while True:
        step = steps.send(outcome)
        if isinstance(step, Exchange):
            asked.append(step.target)
            entry = f'[{{"name": "{name}", "size": 0, "mode": "0755", "is_dir": true, "mtime": 0}}]'
            headers = {"x-file-size": "0", "x-file-mode": "0755", "x-file-isdir": "true"}
            outcome = Reply(status=200, reason="OK", headers=headers, body=entry.encode(), whom="it")
        else:
            assert isinstance(step, Local)
            outcome = None  # no directory is made here


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc/passwd"])
def test_a_sandbox_cannot_choose_where_its_files_go(name: str) -> None:
    with pytest.raises(Unavailable) as caught:
        directory_of(name, Flows(INFO).download("/x", "/nowhere"))
    assert caught.value.code == "bad-answer"


def test_a_circle_of_directories_has_an_end() -> None:
    with pytest.raises(LimitExceeded):
        directory_of("d", Flows(INFO).download("/x", "/nowhere", MAX_DEPTH - 2))


def test_a_request_keeps_to_its_port() -> None:
    step = next(Flows(INFO).request("GET", 80, "/ä b?x=1", {}, None))
    assert isinstance(step, Exchange)
    assert step.target == "/sandboxes/s1/proxy/80/%C3%A4%20b?x=1"
    with pytest.raises(InvalidRequest):
        next(Flows(INFO).request("GET", 80, "x", {}, None))


def test_what_is_sent_is_bytes() -> None:
    assert as_bytes("é") == "é".encode()
    assert injected({"/a": "b"}) == [types.FileInjection(guest_path="/a", content=b"b")]
    assert exec_request("x", timeout=2).timeout_sec == 2
