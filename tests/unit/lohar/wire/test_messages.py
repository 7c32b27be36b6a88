import base64
import inspect
import json
from typing import Any

import pytest

from lohar.wire import messages
from lohar.wire.frames import FrameParser, FrameType, encode
from lohar.wire.limits import LIMITS
from lohar.wire.messages import (
    FEATURES,
    REVISION,
    ActivityInfo,
    ExecRequest,
    ExitInfo,
    ExitReason,
    Facts,
    Feature,
    FileInfo,
    FileListRequest,
    FileReadRequest,
    FileReadResponse,
    FileWriteRequest,
    FileWriteResponse,
    ForwardRequest,
    ForwardResponse,
    Hello,
    HelloRequest,
    Identity,
    IdentityFile,
    MessageError,
    OomKill,
    ProcessFact,
    Resumed,
    SessionInfo,
    WatchEvent,
    WatchEvents,
    WatchKind,
    decode_list,
    encode_list,
)
from lohar.wire.records import Record

ENTROPY = bytes(range(32))
IN_BASE64 = base64.b64encode(ENTROPY).decode()

ALL_MESSAGES = [cls for _, cls in inspect.getmembers(messages, inspect.isclass) if issubclass(cls, Record)]
ALL_MESSAGES.remove(Record)

REFERENCE: list[tuple[Record, dict[str, Any]]] = [
    (
        ExecRequest(argv=("ls", "-l"), env={"A": "b"}, tty=True, rows=24, cols=80, cwd="/", max_idle_sec=5),
        {"argv": ["ls", "-l"], "env": {"A": "b"}, "tty": True, "rows": 24, "cols": 80, "cwd": "/", "max_idle_sec": 5},
    ),
    (ExecRequest(session_id="s1"), {"session_id": "s1"}),
    (
        SessionInfo(session_id="s1", argv="sh -l", tty=True, running=True, attached=True, created_at=1),
        {"session_id": "s1", "argv": "sh -l", "tty": True, "running": True, "attached": True, "created_at": 1},
    ),
    (
        SessionInfo(session_id="s2", exit_code=0),
        {
            "session_id": "s2",
            "argv": "",
            "tty": False,
            "running": False,
            "exit_code": 0,
            "attached": False,
            "created_at": 0,
        },
    ),
    (
        ActivityInfo(last_activity_unix=7, active_sessions=2, attached_sessions=1),
        {"last_activity_unix": 7, "active_sessions": 2, "attached_sessions": 1},
    ),
    (ForwardRequest(port=80), {"port": 80}),
    (ForwardResponse(status="ok"), {"status": "ok"}),
    (FileReadRequest(path="/a"), {"path": "/a"}),
    (
        FileReadRequest(path="/a", offset=1, limit=2, max_bytes=-3),
        {"path": "/a", "offset": 1, "limit": 2, "max_bytes": -3},
    ),
    (FileReadResponse(size=0, mode="0644"), {"size": 0, "mode": "0644"}),
    (FileWriteRequest(path="/a", mode="0600", size=0), {"path": "/a", "mode": "0600", "size": 0}),
    (FileWriteResponse(), {"status": "ok"}),
    (FileListRequest(path="/a"), {"path": "/a"}),
    (
        FileInfo(name="a", size=0, mode="0644", is_dir=False, mtime=0),
        {"name": "a", "size": 0, "mode": "0644", "is_dir": False, "mtime": 0},
    ),
]


@pytest.mark.parametrize(("message", "expected"), REFERENCE, ids=lambda value: type(value).__name__)
def test_reference_messages_look_as_the_reference_writes_them(message: Record, expected: dict[str, Any]) -> None:
    assert json.loads(message.to_json()) == expected
    assert type(message).from_json(json.dumps(expected).encode()) == message


def test_unset_options_of_an_exec_request_are_absent() -> None:
    assert ExecRequest(argv=("true",)).to_json() == b'{"argv":["true"]}'


def test_an_exec_request_that_takes_nothing_over_says_so() -> None:
    assert ExecRequest(session_id="s1").takeover
    assert ExecRequest.from_json(b'{"session_id":"s1","takeover":false}').takeover is False
    assert b'"takeover":false' in ExecRequest(session_id="s1", takeover=False).to_json()


def test_a_cursor_of_zero_is_not_the_same_as_no_cursor() -> None:
    assert ExecRequest(session_id="s1", since=0).to_object()["since"] == 0
    assert ExecRequest.from_json(b'{"session_id":"s1"}').since is None


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b'{"argv":"ls"}', "argv"),
        (b'{"argv":["a",3]}', "argv[1]"),
        (b'{"argv":["a\\u0000"]}', "argv[0]"),
        (b'{"env":["A=1"]}', "env"),
        (b'{"env":{"PATH":3}}', "env[PATH]"),
        (b'{"rows":65536}', "rows"),
        (b'{"cols":-1}', "cols"),
        (b'{"tty":"yes"}', "tty"),
        (b'{"timeout_sec":"1"}', "timeout_sec"),
        (b'{"ring_bytes":99999999999}', "ring_bytes"),
        (b'{"cwd":{}}', "cwd"),
        (b"[]", ""),
    ],
)
def test_a_wrong_exec_request_is_refused_by_the_fields_name(payload: bytes, field: str) -> None:
    with pytest.raises(MessageError) as caught:
        ExecRequest.from_json(payload)
    assert caught.value.field == field


@pytest.mark.parametrize("port", [-1, 65536, "80", 80.0, True, None])
def test_a_port_is_a_number_of_16_bits(port: object) -> None:
    with pytest.raises(MessageError, match="port"):
        ForwardRequest.from_json(json.dumps({"port": port}).encode())


def test_hello_lists_revision_features_and_limits() -> None:
    hello = Hello.from_json(Hello(agent="lohar/1", boot_id="b").to_json())
    assert hello.revision == REVISION == 2
    assert hello.features == tuple(str(feature) for feature in Feature) == FEATURES
    assert hello.limits == LIMITS


def test_hello_understands_a_newer_agent() -> None:
    hello = Hello.from_json(b'{"revision":9,"features":["keep-alive","telepathy"],"limits":{"minds":1},"colour":"red"}')
    assert hello.features == ("keep-alive", "telepathy")
    assert hello.limits == LIMITS, "limits it does not name are taken to be ours"


def test_an_exit_says_why() -> None:
    info = ExitInfo(reason=ExitReason.OOM, signal=9, oom=OomKill(victim="python3", pid=812, limit_bytes=1 << 28))
    assert json.loads(info.to_json()) == {
        "reason": "oom",
        "signal": 9,
        "oom": {"victim": "python3", "pid": 812, "limit_bytes": 1 << 28},
    }
    assert ExitInfo.from_json(info.to_json()) == info
    assert ExitInfo(reason=ExitReason.EXITED).to_json() == b'{"reason":"exited"}'


def test_identity_carries_files_and_entropy_as_base64() -> None:
    identity = Identity(
        generation=1,
        clock_ns=10**18,
        entropy=ENTROPY,
        hostname="box",
        files={"/etc/motd": IdentityFile(content=b"\x00hi", mode="0600")},
        dns=("10.0.0.1",),
    )
    wire = json.loads(identity.to_json())
    assert wire["entropy"] == IN_BASE64
    assert wire["files"] == {"/etc/motd": {"content": "AGhp", "mode": "0600"}}
    assert Identity.from_json(identity.to_json()) == identity


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"generation": 0}, "generation"),
        ({"entropy": base64.b64encode(ENTROPY[:31]).decode()}, "entropy"),
        ({"entropy": "not base64"}, "entropy"),
        ({"clock_ns": -1}, "clock_ns"),
        ({"files": {"/a": {"content": "?"}}}, "files[/a].content"),
        ({"files": {"/a": {}}}, "files[/a].content"),
        ({"dns": "10.0.0.1"}, "dns"),
    ],
)
def test_a_wrong_identity_is_refused(change: dict[str, Any], field: str) -> None:
    good = {"generation": 1, "clock_ns": 1, "entropy": IN_BASE64}
    Identity.from_object(good)
    with pytest.raises(MessageError) as caught:
        Identity.from_object(good | change)
    assert caught.value.field == field


def test_resumed_needs_a_clock_and_a_full_seed() -> None:
    assert Resumed(clock_ns=1, entropy=ENTROPY).generation == 0
    with pytest.raises(MessageError, match="entropy"):
        Resumed(clock_ns=1, entropy=b"short")


def test_facts_and_watch_events_nest() -> None:
    facts = Facts(processes=(ProcessFact(pid=5, name="make", cpu_ms=3),), load=(0.5, 0.25, 0.0), oom_kills=1)
    assert Facts.from_json(facts.to_json()) == facts
    events = WatchEvents(events=(WatchEvent(path="/a/b", kind=WatchKind.MOVED_TO, is_dir=True),), overflow=True)
    assert WatchEvents.from_json(events.to_json()) == events
    assert WatchEvents().to_json() == b'{"events":[]}', "the first event: the watch stands"


def test_listings_are_arrays() -> None:
    entries = [FileInfo(name="a", mode="0644"), FileInfo(name="b", mode="0755", is_dir=True)]
    assert decode_list(FileInfo, encode_list(entries)) == entries


def test_a_message_survives_framing() -> None:
    parser = FrameParser()
    parser.feed(encode(FrameType.HELLO_REQ, HelloRequest(client="test/1").to_json()))
    ((kind, payload),) = parser.frames()
    assert kind == FrameType.HELLO_REQ
    assert HelloRequest.from_json(payload) == HelloRequest(client="test/1")


@pytest.mark.parametrize("cls", ALL_MESSAGES)
def test_every_message_says_what_it_is(cls: type[Record]) -> None:
    assert cls.__doc__
