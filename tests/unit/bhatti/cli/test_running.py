import os

import pytest
from tests.daemons import Daemon

from bhatti.cli.running import run_command, tell_of_prompt
from bhatti.errors import NotFound


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 3"], 3), (["no-such-command"], 127), (["/etc/passwd"], 126)]
)
def test_a_command_ends_as_in_a_shell(
    served: Daemon, command: list[str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(served.endpoint, "one", command, stdin=None) == code
    told = capfd.readouterr().err
    assert told.startswith("bhatti: ") if code > 125 else not told


def test_only_a_person_at_a_terminal_waits_for_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_a_terminal = {0, 1}
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor in at_a_terminal)
    for command in (["sh"], ["/bin/bash"]):
        tell_of_prompt(command)
        assert capsys.readouterr().err.startswith(f"bhatti: {command[0]} has no terminal here")
    for command in (["sh", "-c", "x"], ["cat"]):
        tell_of_prompt(command)
    at_a_terminal.remove(1)
    tell_of_prompt(["sh"])
    assert capsys.readouterr().err == ""


def test_other_errors_are_raised(served: Daemon) -> None:
    with pytest.raises(NotFound):
        run_command(served.endpoint, "nobody", ["true"], stdin=None)
