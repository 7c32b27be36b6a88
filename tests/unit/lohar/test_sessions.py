import pytest
from tests.unit.lohar.serving import Client, Serving

from lohar.failures import RequestError
from lohar.wire.frames import FrameType


def open_session(client: Client, *argv: str, **options: object) -> str:
    client.send(FrameType.EXEC_REQ, argv=list(argv), session=True, **options)
    return str(client.json(FrameType.SESSION_INFO)["session_id"])


def test_numbers_are_never_given_twice(serving: Serving) -> None:
    first = open_session(serving.connect(), "cat")
    failed = serving.connect()
    failed.send(FrameType.EXEC_REQ, argv=["/nonexistent"], session=True)
    assert "no such file" in failed.error()
    third = open_session(serving.connect(), "cat")
    assert (first, third) == ("s1", "s3")


def test_an_unknown_session_is_not_found(serving: Serving) -> None:
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, session_id="s9")
    assert client.error() == "session not found"
    with pytest.raises(RequestError, match="session not found"):
        serving.agent.sessions.kill("s9")


@pytest.mark.parametrize("polite", [{"if_detached": True}, {"takeover": False}])
def test_who_asks_politely_does_not_steal(serving: Serving, polite: dict[str, bool]) -> None:
    session = open_session(serving.connect(), "cat")
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, session_id=session, **polite)
    assert client.error() == "session is attached"


def test_there_is_a_limit(serving: Serving) -> None:
    serving.agent.sessions._limits = serving.agent.limits.replace(sessions=2)
    open_session(serving.connect(), "cat")
    open_session(serving.connect(), "cat")
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, argv=["cat"], session=True)
    assert client.error() == "session limit exceeded"


def test_counts_tell_running_and_attached_apart(serving: Serving) -> None:
    sessions = serving.agent.sessions
    client = serving.connect()
    session = open_session(client, "cat")
    assert (sessions.active, sessions.attached) == (1, 1)
    client.sock.close()
    serving.turn_until(lambda: sessions.attached == 0)
    assert sessions.active == 1
    sessions.kill(session)
    serving.turn_until(lambda: sessions.active == 0)
    (listed,) = sessions.list()
    assert (listed.running, listed.exit_code, listed.reason) == (False, 137, "killed")
    sessions.kill(session)
    assert sessions.list() == [], "an ended one is forgotten"


def test_what_was_delivered_is_forgotten_at_once(serving: Serving) -> None:
    client = serving.connect()
    open_session(client, "true")
    assert client.output()[2] == 0
    assert serving.agent.sessions.list() == []


def test_what_nobody_came_for_is_forgotten_after_its_time(serving: Serving) -> None:
    sessions = serving.agent.sessions
    sessions._limits = serving.agent.limits.replace(exited_session_ms=50)
    client = serving.connect()
    open_session(client, "cat")
    client.sock.close()
    serving.turn_until(lambda: sessions.attached == 0)
    sessions.kill("s1")
    serving.turn_until(lambda: not sessions.list())


def test_the_start_up_script_is_a_session_that_can_be_attached_to(serving: Serving) -> None:
    serving.agent.start_init("echo from the script; read line; exit 4")
    serving.turn_until(lambda: serving.agent.sessions.list()[0].offset)
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, session_id="init")
    assert client.json(FrameType.SESSION_INFO)["session_id"] == "init"
    assert b"from the script" in client.expect(FrameType.STDOUT)
    client.send(FrameType.STDIN, b"\n")
    assert client.output()[2] == 4


def test_a_script_that_cannot_start_is_told_on_the_console(
    serving: Serving, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.agent.sessions._limits = serving.agent.limits.replace(sessions=1)
    serving.agent.start_init("sleep 60")
    serving.agent.start_init("true")
    assert "lohar: init: session limit exceeded" in capsys.readouterr().err
