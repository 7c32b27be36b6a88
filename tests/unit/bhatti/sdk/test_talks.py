import pytest

from bhatti.errors import BhattiError
from bhatti.operations import types
from bhatti.sdk.execution import STDERR, STDIN, STDOUT
from bhatti.sdk.results import Output
from bhatti.sdk.talks import (
    PIECE_BYTES,
    Collector,
    CommandTalk,
    TerminalTalk,
    argv,
    as_bytes,
    fed,
    lost,
    pieces,
    shown,
    terminal_query,
)
from bhatti.sdk.websocket import BINARY, TEXT


def talk() -> CommandTalk:
    return CommandTalk("one", types.ExecRequest(cmd=["true"]))


def test_a_text_is_for_a_shell_and_a_list_is_itself() -> None:
    assert argv("a b") == ["sh", "-c", "a b"]
    assert argv(("a", "b")) == ["a", "b"]
    assert (shown("a b"), shown(["a", "b"])) == ("a b", "a b")


def test_a_character_cut_in_two_comes_whole() -> None:
    command, euro = talk(), "€".encode()
    assert command.receive(BINARY, STDOUT + euro[:1]) == Output("stdout", euro[:1], "")
    assert command.receive(BINARY, STDERR + b"x") == Output("stderr", b"x", "x")
    assert command.receive(BINARY, STDOUT + euro[1:]) == Output("stdout", euro[1:], "€")
    assert command.receive(TEXT, b'{"type": "exit", "exit_code": 2}') is None
    assert (command.done, command.exit_code, command.reason) == (True, 2, "exited")


def test_a_refusal_is_raised() -> None:
    command = talk()
    with pytest.raises(BhattiError, match="no such program") as caught:
        command.receive(TEXT, b'{"type": "error", "error": "no such program", "code": "exec-failed"}')
    assert (command.done, caught.value.code) == (True, "exec-failed")


def test_long_input_goes_in_pieces() -> None:
    sent = talk().input(b"z" * (PIECE_BYTES + 1))
    assert [len(payload) for _, payload in sent] == [PIECE_BYTES + 1, 2]
    assert all(payload.startswith(STDIN) for _, payload in sent)
    assert talk().end_of_input() == (BINARY, STDIN)


def test_a_terminal_counts_what_it_shows() -> None:
    query = terminal_query("vi", rows=1, cols=2, cwd=None, user=None, max_idle_sec=3)
    terminal = TerminalTalk("one", query)
    assert "cmd=%5B%22sh%22%2C+%22-c%22%2C+%22vi%22%5D" in terminal.target
    terminal.receive(TEXT, b'{"type": "session", "session_id": "s", "offset": 5, "gap": 1}')
    assert terminal.receive(BINARY, b"abc") == b"abc"
    assert (terminal.session_id, terminal.offset, terminal.gap, terminal.begun) == ("s", 8, 1, True)
    terminal.receive(TEXT, b'{"type": "exit", "exit_code": 1}')
    assert (terminal.done, terminal.exit_code) == (True, 1)


def test_input_is_nothing_something_or_yet_to_come() -> None:
    assert pieces(None, interactive=True) is None
    assert pieces(None, interactive=False) == ()
    assert pieces("é", interactive=False) == ("é".encode(),)
    assert pieces(b"b", interactive=False) == (b"b",)


def test_input_ends_with_its_end() -> None:
    command = talk()
    assert list(fed(command, (b"a", b"b"))) == [*command.input(b"a"), *command.input(b"b"), command.end_of_input()]
    assert as_bytes("é") == as_bytes("é".encode())


def test_a_collector_keeps_each_stream_to_its_limit() -> None:
    collector, command = Collector(3), talk()
    collector.take(Output("stdout", b"ab", "ab"))
    collector.take(Output("stdout", b"cd", "cd"))
    collector.take(Output("stderr", b"e", "e"))
    result = collector.result("x", command)
    assert (result.stdout_bytes, result.stderr_bytes, result.truncated) == (b"abc", b"e", True)


def test_a_lost_connection_has_a_code() -> None:
    assert lost("`x`", EOFError("gone")).code == "connection-lost"
