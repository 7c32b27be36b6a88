import pytest
from tests.daemons import Daemon

from bhatti.cli.running import run_command
from bhatti.errors import NotFound


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 3"], 3), (["no-such-command"], 127), (["/etc/passwd"], 126)]
)
def test_a_command_ends_as_in_a_shell(
    served: Daemon, command: list[str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(served.endpoint, "one", {"cmd": command}, stdin=None) == code
    told = capfd.readouterr().err
    assert told.startswith("bhatti: ") if code > 125 else not told


def test_other_errors_are_raised(served: Daemon) -> None:
    with pytest.raises(NotFound):
        run_command(served.endpoint, "nobody", {"cmd": ["true"]}, stdin=None)
