"""Flows against a daemon are in sync/; here is what no honest daemon answers."""

from pathlib import Path

import pytest

from bhatti.errors import InvalidRequest
from bhatti.operations import types
from bhatti.operations.examples import SANDBOX
from bhatti.sdk.flows import Flows, exec_request, injected
from bhatti.sdk.steps import Exchange, Local, Reply, Steps

AT = f"/sandboxes/{SANDBOX.id}"


def answered(steps: Steps[None], *headers: dict[str, str]) -> list[Exchange]:
    """Answer with these headers, one after the other; return what was asked for."""
    asked: list[Exchange] = []
    outcome: object = None
    try:
        while True:
            step = steps.send(outcome)
            if isinstance(step, Local):
                outcome = step.function()
                continue
            assert isinstance(step, Exchange)
            asked.append(step)
            outcome = Reply(
                status=200, reason="OK", headers=headers[len(asked) - 1], body=b'{"status":"ok"}', whom="it"
            )
    except StopIteration:
        return asked


def told(*, is_dir: bool) -> dict[str, str]:
    return {"x-file-size": "0", "x-file-mode": "0755", "x-file-isdir": "true" if is_dir else "false"}


@pytest.mark.parametrize("is_dir", [True, False])
def test_a_directory_comes_as_one_archive_and_a_file_as_it_is(is_dir: bool) -> None:
    asked = answered(Flows(SANDBOX).download("/x", "/nowhere"), told(is_dir=is_dir), {})
    assert [step.method for step in asked] == ["HEAD", "GET"]
    assert (asked[1].sink, asked[1].tree) == ("/nowhere", is_dir)
    assert ("/files/archive?" in asked[1].target) is is_dir


def test_a_directory_goes_as_one_archive_and_a_file_with_its_mode(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o751)
    (step,) = answered(Flows(SANDBOX).upload(str(tmp_path), "/x"), {})
    assert (step.source, step.tree, step.target) == (str(tmp_path), True, f"{AT}/files/archive?path=/x")
    (step,) = answered(Flows(SANDBOX).upload(f"{tmp_path}/file", "/x"), {})
    assert (step.source, step.tree, step.target) == (f"{tmp_path}/file", False, f"{AT}/files?path=/x&mode=0751")


def test_a_watch_is_asked_for_with_what_was_given() -> None:
    with pytest.raises(StopIteration) as end:
        next(Flows(SANDBOX).watch("/x", True, 2.5))
    assert end.value.value == {"path": "/x", "recursive": "true", "timeout_sec": "2.5"}
    with pytest.raises(StopIteration) as end:
        next(Flows(SANDBOX).watch("/x", False, None))
    assert end.value.value == {"path": "/x"}


def test_a_request_keeps_to_its_port() -> None:
    step = next(Flows(SANDBOX).request("GET", 80, "/ä b?x=1", {}, None))
    assert isinstance(step, Exchange)
    assert step.target == f"{AT}/proxy/80/%C3%A4%20b?x=1"
    with pytest.raises(InvalidRequest):
        next(Flows(SANDBOX).request("GET", 80, "x", {}, None))


def test_what_is_sent_is_bytes() -> None:
    assert injected({"/a": "b"}) == [types.FileInjection(guest_path="/a", content=b"b")]
    assert exec_request("x", timeout=2).timeout_sec == 2
