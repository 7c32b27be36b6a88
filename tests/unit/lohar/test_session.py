from tests.unit.lohar.serving import Client, Serving

from lohar.wire.frames import FrameType, encode_resize


def read_until(client: Client, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        seen += client.expect(FrameType.STDOUT)
    return seen


def test_a_terminal_echoes_resizes_and_exits(client: Client) -> None:
    client.send(FrameType.EXEC_REQ, argv=["sh"], env={"PS1": "$ "}, tty=True, rows=10, cols=20)
    info = client.json(FrameType.SESSION_INFO)
    assert (info["tty"], info["running"], info["attached"]) == (True, True, True)
    client.send(FrameType.STDIN, b"stty size\n")
    read_until(client, b"10 20")
    client.send(FrameType.RESIZE, encode_resize(40, 120))
    client.send(FrameType.STDIN, b"stty size\n")
    read_until(client, b"40 120")
    client.send(FrameType.STDIN, b"exit 5\n")
    assert client.output()[2] == 5


def test_a_cursor_brings_what_was_missed_and_says_what_is_lost(serving: Serving) -> None:
    first = serving.connect()
    first.send(FrameType.EXEC_REQ, argv=["cat"], session=True, ring_bytes=8)
    session = first.json(FrameType.SESSION_INFO)["session_id"]
    first.send(FrameType.STDIN, b"0123456789")
    assert read_until(first, b"9") == b"0123456789"
    first.sock.close()
    second = serving.connect()
    second.send(FrameType.EXEC_REQ, session_id=session, since=5)
    info = second.json(FrameType.SESSION_INFO)
    assert (info["offset"], info["start"], info["gap"]) == (10, 2, 0)
    assert second.expect(FrameType.STDOUT) == b"56789"
    second.sock.close()
    third = serving.connect()
    third.send(FrameType.EXEC_REQ, session_id=session, since=0)
    assert third.json(FrameType.SESSION_INFO)["gap"] == 2
    assert third.expect(FrameType.STDOUT) == b"23456789"


def test_a_new_holder_sends_the_old_one_away_for_good(serving: Serving) -> None:
    first, second = serving.connect(), serving.connect()
    first.send(FrameType.EXEC_REQ, argv=["cat"], session=True)
    session = first.json(FrameType.SESSION_INFO)["session_id"]
    second.send(FrameType.EXEC_REQ, session_id=session)
    second.expect(FrameType.SESSION_INFO)
    assert first.output()[2] == 0
    first.sock.close()
    second.send(FrameType.STDIN, b"mine")
    assert second.expect(FrameType.STDOUT) == b"mine"
    (listed,) = serving.agent.sessions.list()
    assert listed.attached, "the first client's end has not cleared the second's flag"


def test_a_watcher_sees_everything_and_types_nothing(serving: Serving) -> None:
    holder, watcher = serving.connect(), serving.connect()
    holder.send(FrameType.EXEC_REQ, argv=["cat"], session=True)
    session = holder.json(FrameType.SESSION_INFO)["session_id"]
    watcher.send(FrameType.EXEC_REQ, session_id=session, read_only=True)
    assert watcher.json(FrameType.SESSION_INFO)["watchers"] == 1
    watcher.send(FrameType.STDIN, b"not for you")
    holder.send(FrameType.STDIN, b"hello")
    assert watcher.expect(FrameType.STDOUT) == b"hello"
    assert holder.expect(FrameType.STDOUT) == b"hello"
    holder.send(FrameType.STDIN)
    assert holder.output()[2] == 0
    assert watcher.output()[2] == 0


def test_an_idle_session_ends_only_after_its_client_has_left(serving: Serving) -> None:
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, argv=["cat"], session=True, max_idle_sec=1)
    client.expect(FrameType.SESSION_INFO)
    (session,) = serving.agent.sessions
    client.sock.close()
    serving.turn_until(lambda: session.ended)
    assert session.child.reason == "timeout"


def test_a_slow_holder_makes_the_command_wait(serving: Serving) -> None:
    client = serving.connect()
    client.send(FrameType.EXEC_REQ, argv=["sh", "-c", "head -c 4000000 /dev/zero; echo end"], session=True)
    client.expect(FrameType.SESSION_INFO)
    (session,) = serving.agent.sessions
    for _ in range(50):
        serving.loop.turn(0.01)
    holder = session.holder
    assert holder is not None
    assert session.scrollback.total - holder.cursor <= session.scrollback.capacity
    assert session.child.running
    out, _, code = client.output()
    assert (len(out), out[-4:], code) == (4_000_004, b"end\n", 0)
