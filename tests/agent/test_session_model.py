"""Sessions against a model: whatever clients do, the bytes they see are the bytes that were said, gaps declared.

The command on the terminal says exactly what it is told to, so the model knows every byte ever produced. Clients come,
watch, take over, vanish; each remembers where it is, as a real client would, and every byte it gets is compared.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from tests.agent.agents import LocalAgent, wait_until

from lohar.wire.frames import FrameType, parse_exit

if TYPE_CHECKING:
    from tests.agent.client import Connection

SPEAKER = """
import os, sys, tty
if os.isatty(0):
    tty.setraw(0)
os.write(1, b"!")
for line in sys.stdin:
    count, letter = line.split()
    if count == "0":
        sys.exit(0)
    data = letter.encode() * int(count)
    while data:
        data = data[os.write(1, data):]
"""
"""Reads `COUNT LETTER` and says that letter so often, and nothing else; begins with `!`, ends at 0."""

RING = 3000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Client:
    """A client as the model sees it: the position after the last byte that it has, in `session`."""

    def __init__(self, connection: Connection, session: Session, position: int, *, watching: bool) -> None:
        self.connection = connection
        self.session = session
        self.position = position
        self.watching = watching

    def catch_up(self) -> None:
        """Receive everything that was said, and compare it."""
        said = self.session.said
        while self.position < len(said):
            kind, payload = self.connection.receive()
            assert kind == FrameType.STDOUT, (kind, payload)
            expected = bytes(said[self.position : self.position + len(payload)])
            assert payload == expected, f"at {self.position}"
            self.position += len(payload)


class Session:
    """A session as the model sees it: all that it ever said, and where a client that left had got to."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier
        self.said = bytearray()
        self.left_at = 0
        self.holder: Client | None = None
        self.watchers: list[Client] = []
        self.alive = True


class Sessions(RuleBasedStateMachine):
    """Random lives of sessions on one agent."""

    sessions: Bundle[Session] = Bundle("sessions")

    @initialize()
    def start_agent(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.agent = LocalAgent(Path(self.folder.name))
        self.connections: list[Connection] = []

    def teardown(self) -> None:
        for connection in self.connections:
            connection.close()
        self.agent.close()
        self.folder.cleanup()

    def connect(self) -> Connection:
        connection = self.agent.connect()
        self.connections.append(connection)
        connection.hello()
        return connection

    @rule(target=sessions, tty=st.booleans())
    def start(self, tty: bool) -> Session:
        connection = self.connect()
        kind = {"tty": True} if tty else {"session": True}
        info = connection.open_session("/usr/bin/python3", "-ISuc", SPEAKER, ring_bytes=RING, **kind)
        session = Session(info["session_id"])
        session.said += b"!"
        session.holder = Client(connection, session, 0, watching=False)
        session.holder.catch_up()
        return session

    @rule(session=sessions, rows=st.integers(0, 300), cols=st.integers(0, 300))
    def resize(self, session: Session, rows: int, cols: int) -> None:
        if session.holder is not None:
            session.holder.connection.resize(rows, cols)

    @rule(session=sessions, count=st.integers(1, 2 * RING), letter=st.sampled_from(LETTERS))
    def speak(self, session: Session, count: int, letter: str) -> None:
        """Have the holder make the command say something; everybody attached sees it."""
        if not session.alive or session.holder is None:
            return
        for client in (session.holder, *session.watchers):
            client.catch_up()
        # A watcher has no claim to more than is kept: it is given no more to read than that.
        count = min(count, RING // 2) if session.watchers else count
        session.holder.connection.type(f"{count} {letter}\n")
        session.said += letter.encode() * count
        session.holder.catch_up()
        for watcher in session.watchers:
            watcher.catch_up()

    @rule(session=sessions, count=st.integers(1, 2 * RING), letter=st.sampled_from(LETTERS))
    def speak_into_the_void(self, session: Session, count: int, letter: str) -> None:
        """Have the holder make the command say something and leave without looking."""
        if not session.alive or session.holder is None or session.watchers:
            return
        holder, session.holder = session.holder, None
        holder.catch_up()
        session.left_at = holder.position
        holder.connection.type(f"{count} {letter}\n")
        holder.connection.close()
        session.said += letter.encode() * count
        self.settle(session)

    def settle(self, session: Session) -> None:
        def produced() -> bool:
            return bool(self.agent.sessions()[session.identifier]["offset"] == len(session.said))

        wait_until(produced, f"all {len(session.said)} bytes were produced")

    @rule(session=sessions)
    def leave(self, session: Session) -> None:
        if session.holder is not None:
            session.holder.catch_up()
            session.left_at = session.holder.position
            session.holder.connection.close()
            session.holder = None

    @rule(session=sessions, remember=st.booleans(), watching=st.booleans(), polite=st.booleans())
    def attach(self, session: Session, remember: bool, watching: bool, polite: bool) -> None:
        if not session.alive:
            return
        connection = self.connect()
        options = {"since": session.left_at} if remember else {}
        if polite and not watching and session.holder is not None:
            connection.send_json(FrameType.EXEC_REQ, session_id=session.identifier, takeover=False)
            assert connection.expect(FrameType.ERROR) == b"session is attached"
            connection.close()
            return
        info = connection.attach(session.identifier, read_only=watching, **options)
        start = max(0, len(session.said) - RING)
        assert info["offset"] == len(session.said)
        assert info["start"] == start
        position = start
        if remember:
            position = max(start, session.left_at)
            assert info["gap"] == position - session.left_at
        client = Client(connection, session, position, watching=watching)
        if watching:
            session.watchers.append(client)
        else:
            self.replace_holder(session, client)
        client.catch_up()

    def replace_holder(self, session: Session, client: Client) -> None:
        previous, session.holder = session.holder, client
        if previous is not None:
            previous.catch_up()
            assert parse_exit(previous.connection.expect(FrameType.EXIT)) == (0, b"")
            # What it still says must not matter: the letter would show up in what everybody sees.
            previous.connection.type("5 ?\n")
            previous.connection.close()

    @rule(session=sessions)
    def stop_watching(self, session: Session) -> None:
        if session.watchers:
            session.watchers.pop().connection.close()

    @rule(session=consumes(sessions), by_input=st.booleans())
    def finish(self, session: Session, by_input: bool) -> None:
        """End the command; everybody gets the rest, and then the end."""
        by_input = by_input and session.holder is not None
        if by_input:
            assert session.holder is not None
            session.holder.connection.type("0 x\n")
        else:
            with self.agent.connect() as connection:
                connection.send_json(FrameType.EXEC_KILL, session_id=session.identifier)
                assert parse_exit(connection.expect(FrameType.EXIT)) == (0, b"")
        session.alive = False
        for client in (session.holder, *session.watchers):
            if client is not None:
                client.catch_up()
                assert parse_exit(client.connection.expect(FrameType.EXIT)) == (0 if by_input else 137, b"")
                client.connection.close()
        if session.holder is not None:
            wait_until(lambda: session.identifier not in self.agent.sessions(), "a delivered session is forgotten")


Sessions.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSessions = pytest.mark.timeout(300)(Sessions.TestCase)
