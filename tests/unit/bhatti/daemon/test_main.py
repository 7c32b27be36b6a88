import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import settings_in

from bhatti.daemon import main as module
from bhatti.daemon.lock import sole_daemon
from bhatti.daemon.main import Ready, first, main
from bhatti.errors import BhattiError, NotFound


def flags(directory: Path, *more: str) -> list[str]:
    given = (f"state_dir={directory}", "engine=tests.engines.local:LocalEngine", *more)
    return [part for flag in given for part in ("--set", flag)]


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root_logger: None) -> Iterator[None]:
    """What main changes about its process is as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_work_answers_with_json(capsysbinary: pytest.CaptureFixture[bytes], directory: Path) -> None:
    assert main(["doctor", *flags(directory)]) == 0
    assert json.loads(capsysbinary.readouterr().out)["checks"]


def test_a_work_that_fails_answers_with_the_error_as_json(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    assert main(["image-remove", "base", *flags(directory)]) == NotFound.exit_code
    assert json.loads(capsys.readouterr().out)["code"] == "image-not-found"


def test_a_daemon_that_cannot_start_says_why_to_people_and_to_who_started_it(
    capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    reader, writer = os.pipe()
    with sole_daemon(settings_in(directory).lock):
        assert main(["serve", "--ready-fd", str(writer), *flags(directory)]) == 5
    with os.fdopen(reader) as said:
        assert json.loads(said.read())["code"] == "already-running"
    told = capsys.readouterr().err
    assert "bhatti: a daemon is already running" in told
    assert "hint: " in told
    assert "Traceback" not in told


def test_a_setting_that_makes_no_sense_is_an_error_like_others(
    capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    assert main(["serve", *flags(directory, "log_level=loud")]) == 2
    assert "log_level" in capsys.readouterr().err


def test_a_defect_is_told_to_who_started_it_and_left_to_the_log(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    def defective(configured: object, ready: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(module, "_serve", defective)
    reader, writer = os.pipe()
    with pytest.raises(KeyError):
        main(["serve", "--ready-fd", str(writer), *flags(directory)])
    with os.fdopen(reader) as said:
        assert "KeyError" in json.loads(said.read())["error"]


def test_an_interrupt_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    def interrupted(configured: object, ready: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_serve", interrupted)
    assert main(["serve", *flags(directory)]) == 130


def test_ready_is_said_once() -> None:
    reader, writer = os.pipe()
    ready = Ready(writer)
    ready()
    ready()
    ready.failed(NotFound("x"))
    with os.fdopen(reader) as said:
        assert said.read() == "ready\n"


def test_ready_does_not_mind_that_nobody_listens_any_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Ready(writer)()
    Ready(None)()


def test_our_error_is_found_in_groups_of_groups() -> None:
    error = NotFound("x")
    assert first(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    assert first(error) is error
    assert first(KeyError("x")) is None
    assert isinstance(first(BhattiError("x")), BhattiError)
