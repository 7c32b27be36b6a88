from pathlib import Path

import pytest
from tests.daemons import ROOT

from bhatti.cli import offline
from bhatti.errors import InvalidRequest, NotFound, Unavailable
from bhatti.operations import types


@pytest.fixture(autouse=True)
def state(environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BHATTI_ENGINE", "tests.engines.local:LocalEngine")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_daemons_works_answer_without_a_daemon() -> None:
    assert offline.answer("doctor", types.DoctorReport).checks
    assert offline.answer("image-list", list[types.Image]) == []


def test_their_errors_are_raised_as_what_they_were() -> None:
    with pytest.raises(NotFound) as caught:
        offline.answer("image-remove", types.Outcome, "base")
    assert caught.value.code == "image-not-found"
    with pytest.raises(InvalidRequest):
        list(offline.lines("image-build", '{"name": "other"}'))


def test_a_work_that_dies_without_a_word_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable) as caught:
        list(offline.lines("no-such-work"))
    assert caught.value.code == "work-failed"


def test_no_daemon_is_told_from_a_daemon_in_trouble() -> None:
    assert offline.no_daemon(Unavailable("x", code="daemon-not-running"))
    assert not offline.no_daemon(Unavailable("x", code="starting"))
