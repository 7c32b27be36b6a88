import json
from pathlib import Path

import click
import pytest

from bhatti.cli.failures import report
from bhatti.errors import MissingDependency, NotFound


@pytest.fixture(autouse=True)
def state(environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_an_error_is_a_line_a_hint_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(NotFound("there is no sandbox 'x'", hint="bhatti ls")) == 4
    assert capsys.readouterr().err == "bhatti: there is no sandbox 'x'\nhint: bhatti ls\n"
    assert report(NotFound("gone")) == 4
    assert capsys.readouterr().err == "bhatti: gone\n"


def test_an_error_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(MissingDependency("no qemu", hint="apt install it", code="qemu-missing"), as_json=True) == 71
    assert json.loads(capsys.readouterr().err) == {
        "error": "no qemu",
        "code": "qemu-missing",
        "hint": "apt install it",
        "exit_code": 71,
    }


def test_a_defect_is_a_line_and_a_file(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["oops"]
    assert report(caught.value) == 70
    told = capsys.readouterr().err
    assert told.startswith("bhatti: a defect of bhatti: KeyError: 'oops'\n")
    assert "Traceback" not in told
    log = state / "cli.log"
    assert str(log) in told
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_defect_that_cannot_be_written_down_is_told_all_the_same(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    state.write_text("in the way")
    assert report(KeyError("oops"), as_json=True) == 70
    assert "could not be written down" in json.loads(capsys.readouterr().err)["hint"]


def test_a_wrong_command_line_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(click.Command("create"), info_name="create")
    assert report(click.UsageError("No such option: --x", context)) == 2
    assert capsys.readouterr().err == "bhatti: No such option: --x\nhint: see `create --help`\n"
    assert report(click.ClickException("odd"), as_json=True) == 1
    assert json.loads(capsys.readouterr().err)["code"] == "usage"


@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit(7), 7), (SystemExit("text"), 1), (click.exceptions.Abort(), 130)],
)
def test_ways_to_end_are_no_errors(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == code
    assert capsys.readouterr().err == ""


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    group = click.Group("file", help="Files.", no_args_is_help=True)
    with pytest.raises(click.exceptions.NoArgsIsHelpError) as caught:
        group.make_context("file", [])
    assert report(caught.value) == 2
    assert "Usage: file" in capsys.readouterr().err


def test_people_at_terminals_see_colour(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report(NotFound("gone", hint="look"))
    assert capsys.readouterr().err == "\033[31mbhatti:\033[0m gone\n\033[2mhint: look\033[0m\n"
