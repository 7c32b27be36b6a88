import sys

import pytest

from bhatti.cli import progress


def steps(*, quiet: bool = False) -> None:
    with progress.shown("image build", quiet=quiet) as report:
        report("kernel", 0, 2)
        report("kernel", 1, 2)
        report("base image", 0, 0)


def test_a_log_gets_a_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    steps()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "image build: kernel\nimage build: base image\n")


def test_nothing_is_said_to_who_wants_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    steps(quiet=True)
    assert capsys.readouterr().err == ""


def test_a_person_sees_something_move(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    steps()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "image build: base image" in captured.err
