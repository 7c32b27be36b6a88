from bhatti.operations import types
from bhatti.operations.examples import SANDBOX
from bhatti.sdk.facts import CommandFacts, SandboxFacts, TerminalFacts
from bhatti.sdk.flows import Flows
from bhatti.sdk.talks import CommandTalk, TerminalTalk
from bhatti.sdk.websocket import BINARY, TEXT


class Known(SandboxFacts):
    def __init__(self) -> None:
        self._flows = Flows(SANDBOX)


class Told(CommandFacts):
    def __init__(self, talk: CommandTalk) -> None:
        self._talk = talk


class Shown(TerminalFacts):
    def __init__(self, talk: TerminalTalk) -> None:
        self._talk = talk


def test_a_sandbox_says_which_it_is() -> None:
    known = Known()
    assert (known.id, known.name, known.info) == ("3f9a1c7e5b20", "agent-1", SANDBOX)
    assert repr(known) == "<Known agent-1 (running)>"


def test_a_command_says_how_it_ended() -> None:
    talk = CommandTalk("one", types.ExecRequest(cmd=["true"]))
    told = Told(talk)
    assert (told.exit_code, told.reason) == (None, "")
    talk.receive(TEXT, b'{"type": "exit", "exit_code": 137, "reason": "killed"}')
    assert (told.exit_code, told.reason) == (137, "killed")


def test_a_terminal_says_how_far_it_is() -> None:
    talk = TerminalTalk("one", types.TerminalQuery())
    shown = Shown(talk)
    talk.receive(TEXT, b'{"type": "session", "session_id": "s", "offset": 5, "gap": 1}')
    talk.receive(BINARY, b"abc")
    assert (shown.offset, shown.gap, shown.exit_code) == (8, 1, None)
