import os

import pytest
from tests.privileges import AS_OTHERS
from tests.unit.lohar.serving import Client, Serving

from lohar.config import AgentConfig
from lohar.failures import RequestError
from lohar.wire.frames import FrameType
from lohar.wire.messages import ExecRequest


def test_the_environment_is_the_default_the_configured_and_the_requested(serving: Serving) -> None:
    serving.agent.configure(AgentConfig(home="/home/x", env={"A": "config", "B": "config"}))
    env = serving.agent.commands.environment(ExecRequest(argv=("x",), env={"B": "request"}))
    assert env == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM": "xterm-256color",
        "HOME": "/home/x",
        "LANG": "en_US.UTF-8",
        "A": "config",
        "B": "request",
    }


def test_a_name_that_is_none_is_refused(serving: Serving) -> None:
    with pytest.raises(RequestError, match="'A=B' is not a variable's name"):
        serving.agent.commands.environment(ExecRequest(argv=("x",), env={"A=B": "c"}))


def test_commands_are_listed_while_they_run(serving: Serving, client: Client) -> None:
    client.send(FrameType.EXEC_REQ, argv=["cat"])
    serving.turn_until(lambda: serving.agent.commands.running)
    ((pid, child),) = serving.agent.commands.running.items()
    assert (child.pid, child.argv) == (pid, ("cat",))
    client.send(FrameType.STDIN)
    assert client.output()[2] == 0
    assert not serving.agent.commands.running


def test_a_relative_working_directory_begins_at_the_usual_one(serving: Serving, client: Client) -> None:
    serving.agent.configure(AgentConfig(cwd="/usr"))
    client.send(FrameType.EXEC_REQ, argv=["pwd"], cwd="share")
    assert client.output()[0] == b"/usr/share\n"
    client.send(FrameType.EXEC_REQ, argv=["pwd"], cwd="/etc")
    assert client.output()[0] == b"/etc\n"


def test_a_working_directory_that_is_gone_does_not_stop_anybody(serving: Serving, client: Client) -> None:
    serving.agent.configure(AgentConfig(cwd="/nonexistent/workspace"))
    client.send(FrameType.EXEC_REQ, argv=["pwd"])
    assert client.output()[0] == b"/\n"


def test_an_unknown_user_is_not_found(client: Client) -> None:
    client.send(FrameType.EXEC_REQ, argv=["id"], user="no-such-user")
    assert client.error() == "start: user 'no-such-user': not found"


@AS_OTHERS
def test_a_command_can_run_as_somebody_else(client: Client) -> None:
    client.send(FrameType.EXEC_REQ, argv=["sh", "-c", "id -un; echo $HOME"], user="nobody")
    assert client.output()[0] == b"nobody\n/nonexistent\n"


def test_files_are_opened_with_the_rights_of_the_commands_account(serving: Serving) -> None:
    commands = serving.agent.commands
    if os.geteuid() == 0:
        with pytest.raises(PermissionError):
            commands.open_as(ExecRequest(argv=("x",), user="nobody"), "/etc/shadow", os.O_RDONLY)
        assert commands.account_owner(ExecRequest(argv=("x",), user="nobody")) == (65534, 65534)
    assert commands.account_owner(ExecRequest(argv=("x",))) is None
    assert commands.owner is None
    os.close(commands.open_as(ExecRequest(argv=("x",)), "/dev/null", os.O_WRONLY))
