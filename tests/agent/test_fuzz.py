"""Any input ends in an answer or an error that the protocol knows, and the agent lives on."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lohar.wire.frames import FrameType, encode, parse_exit

if TYPE_CHECKING:
    from tests.agent.agents import LocalAgent

pytestmark = pytest.mark.timeout(600)

FUZZ = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""One agent serves all examples: that it survives them is the point."""

PATIENCE_S = 60
"""For SYNC_REQ above all, which writes out what the whole machine has not yet written."""

ANSWERS = {
    FrameType.STDOUT,
    FrameType.STDERR,
    FrameType.EXIT,
    FrameType.ERROR,
    FrameType.SESSION_INFO,
    *(kind for kind in FrameType if kind.name.endswith(("_RESP", "_EVENT"))),
}

REQUESTS = {
    FrameType.EXEC_REQ: (
        "argv", "env", "tty", "rows", "cols", "cwd", "session_id", "max_idle_sec", "timeout_sec", "user", "no_stdin",
        "exit_info", "kill_on_eof", "detach", "session", "ring_bytes", "since", "read_only", "takeover", "if_detached",
    ),
    FrameType.EXEC_LIST_REQ: (),
    FrameType.EXEC_KILL: ("session_id",),
    FrameType.ACTIVITY_REQ: (),
    FrameType.FACTS_REQ: (),
    FrameType.FILE_READ_REQ: ("path", "offset", "limit", "max_bytes"),
    FrameType.FILE_WRITE_REQ: ("path", "mode", "size"),
    FrameType.FILE_STAT_REQ: ("path",),
    FrameType.FILE_LS_REQ: ("path", "chunked"),
    FrameType.FILE_WATCH_REQ: ("path", "recursive"),
    FrameType.SYNC_REQ: (),
    FrameType.RESUMED_REQ: ("clock_ns", "entropy", "generation"),
    FrameType.IDENTITY_REQ: ("generation", "clock_ns", "entropy", "sandbox_id", "hostname", "mac", "address", "dns"),
    FrameType.FWD_REQ: ("port",),
}  # fmt: skip
"""Every request and its keys. Left out is what would make the agent deaf or let chance run programs: token, init."""

TEXTS = st.one_of(
    st.sampled_from(
        ["", "true", "cat", "./x", "file", "folder", ".", "..", "s1", "init", "nobody", "0", "0644", "x" * 5000]
    ),
    st.text(alphabet="ab./ \0\n~é\udc80😀", max_size=8),
)
"""Relative, so that nothing can be written but to the agent's own directory."""

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-3, 70),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
        st.sampled_from([["true"], ["cat"], ["sh", "-c", "echo x; exit 3"], ["/"], ["nothing"], {"A": "b"}]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, bytes]:
    """A request that is nearly right: its own keys, with values of all kinds."""
    kind = draw(st.sampled_from(sorted(REQUESTS)))
    keys = REQUESTS[FrameType(kind)]
    message = draw(st.dictionaries(st.sampled_from(keys), VALUES)) if keys else {}
    if kind == FrameType.EXEC_REQ and draw(st.booleans()):
        message["argv"] = draw(st.sampled_from([["true"], ["cat"], ["sh", "-c", "echo x >&2; exit 3"]]))
    if "path" in keys and draw(st.booleans()):
        message["path"] = draw(st.sampled_from(["file", "folder", "missing", "folder/new/file"]))
    return kind, json.dumps(message).encode()


FRAMES = st.one_of(
    requests(),
    st.tuples(st.sampled_from(sorted(FrameType)), st.binary(max_size=64)),
    st.tuples(st.integers(0, 255), st.binary(max_size=16)),
    st.tuples(st.sampled_from([FrameType.STDIN, FrameType.KILL, FrameType.RESIZE]), st.binary(max_size=100)),
).filter(lambda frame: frame[0] != FrameType.HELLO_REQ)


def lives(local: LocalAgent) -> None:
    with local.connect() as connection:
        assert connection.exec("echo", "alive").stdout == b"alive\n"


def prepare(local: LocalAgent) -> None:
    local.file("folder").mkdir(exist_ok=True)
    local.file("file").write_bytes(b"some\nlines\n")


def check_answers(frames: list[tuple[int, bytes]]) -> None:
    for kind, payload in frames:
        assert kind in ANSWERS, hex(kind)
        if kind == FrameType.ERROR:
            assert payload.decode().strip()
            assert b"Traceback" not in payload
        elif kind == FrameType.EXIT:
            assert parse_exit(payload) is not None
        elif kind not in (FrameType.STDOUT, FrameType.STDERR):
            json.loads(payload)


def test_a_request_with_any_values_is_answered_or_refused(local: LocalAgent) -> None:
    prepare(local)

    @FUZZ
    @given(requests())
    def check(request: tuple[int, bytes]) -> None:
        with local.connect() as connection:
            connection.send(*request)
            connection.sock.shutdown(socket.SHUT_WR)
            frames = connection.receive_all(PATIENCE_S)
            check_answers(frames)
            # A watch that stands, and a terminal, have no last word for who leaves.
            assert frames or request[0] in (FrameType.FILE_WATCH_REQ, FrameType.EXEC_REQ), request

    check()
    lives(local)


def test_any_sequence_of_frames_is_survived(local: LocalAgent) -> None:
    prepare(local)

    @FUZZ
    @given(st.lists(FRAMES, max_size=6), st.booleans())
    def check(frames: list[tuple[int, bytes]], greeted: bool) -> None:
        with local.connect() as connection:
            if greeted:
                connection.hello()
            connection.send_raw(b"".join(encode(kind, payload) for kind, payload in frames))
            connection.sock.shutdown(socket.SHUT_WR)
            try:
                answers = connection.receive_all(PATIENCE_S)
            except TimeoutError:
                pytest.fail(f"no end after {frames} (greeted: {greeted})")
            check_answers(answers)

    check()
    lives(local)


def test_any_bytes_are_survived_on_both_ports(local: LocalAgent) -> None:
    @FUZZ
    @given(st.binary(max_size=200), st.booleans())
    def check(data: bytes, forward: bool) -> None:
        if not forward:
            with local.connect() as connection:
                connection.send_raw(data)
                connection.sock.shutdown(socket.SHUT_WR)
                check_answers(connection.receive_all(PATIENCE_S))
            return
        with local.connect_forward() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                return

    check()
    lives(local)


def test_any_forward_request_is_answered(local: LocalAgent) -> None:
    @FUZZ
    @given(st.dictionaries(st.sampled_from(["port", "PORT", "host"]), VALUES, max_size=2))
    def check(message: dict[str, Any]) -> None:
        # Not to real servers of this host: only what cannot be a port, or where nobody listens.
        if isinstance(message.get("port"), int) and not message["port"] < 10:
            return
        with local.connect_forward() as sock:
            sock.sendall(encode(FrameType.FWD_REQ, json.dumps(message).encode()))
            data = b""
            while more := sock.recv(65536):
                data += more
            assert b'"error"' in data

    check()
    lives(local)


def test_fuzzing_has_left_nothing_behind(local: LocalAgent) -> None:
    prepare(local)
    descriptors = local.descriptors()

    @FUZZ
    @given(st.lists(FRAMES, min_size=1, max_size=4))
    def check(frames: list[tuple[int, bytes]]) -> None:
        with local.connect() as connection:
            connection.send_raw(b"".join(encode(kind, payload) for kind, payload in frames))

    check()
    for identifier in local.sessions():
        with local.connect() as connection:
            connection.send_json(FrameType.EXEC_KILL, session_id=identifier)
            connection.receive()
    lives(local)
    from tests.agent.agents import wait_until

    wait_until(lambda: not local.children(), "no child is left")
    # The worker's pipe may have been opened, at the first upload.
    wait_until(lambda: local.descriptors() <= descriptors + 2, "no descriptor is left")
