"""docs/protocol.md promises to be enough to write a client from: it must know all that the code knows."""

import inspect
import re
from pathlib import Path

import pytest

from lohar.wire import messages
from lohar.wire.frames import FrameParser, FrameType, encode_exit
from lohar.wire.limits import Limits
from lohar.wire.messages import ExitReason, Feature, WatchKind
from lohar.wire.records import Record

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

RESERVED = {"SystemctlRequest", "SystemctlResponse"}
"""Messages of frames that the page calls reserved."""

MESSAGES = [
    cls for _, cls in inspect.getmembers(messages, inspect.isclass) if issubclass(cls, Record) and cls.__slots__
]


def described_types() -> dict[int, str]:
    """Read the table of frames: `| 14, 15 | IDENTITY_REQ, _RESP **[2]** | …`."""
    found: dict[int, str] = {}
    for numbers, names in re.findall(r"^\| ([0-9a-f]{2}(?:, [0-9a-f]{2})?) \| ([A-Z_, ]+)", PAGE, re.MULTILINE):
        first, *rest = names.strip().split(", ")
        full = [first, *(first.rsplit("_", 1)[0] + name if name.startswith("_") else name for name in rest)]
        found.update(zip((int(number, 16) for number in numbers.split(", ")), full, strict=True))
    return found


def test_the_table_of_frames_is_the_codes() -> None:
    assert described_types() == {int(kind): kind.name for kind in FrameType}


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_key_of_every_message_is_described(cls: type[Record]) -> None:
    if cls.__name__ in RESERVED:
        assert cls.__name__ not in PAGE
        return
    missing = [key for key in cls.__slots__ if not re.search(rf"\b{key}\b", PAGE)]
    assert not missing


@pytest.mark.parametrize("name", [*Feature, *ExitReason, *WatchKind, *Limits.__slots__])
def test_every_name_is_described(name: str) -> None:
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", PAGE)


def test_the_example_is_what_crosses_the_wire() -> None:
    lines = re.findall(r"^    [<>] ((?:[0-9a-f]{2} +)+[0-9a-f]{2}|(?:[0-9a-f]{2} +)+)({.*})?$", PAGE, re.MULTILINE)
    parser = FrameParser()
    for numbers, text in lines:
        parser.feed(bytes.fromhex(numbers) + text.encode())
    request, output, end = parser.frames()
    parser.feed_eof()
    assert request[0] == FrameType.EXEC_REQ
    assert messages.ExecRequest.from_json(request[1]).argv == ("echo", "hi")
    assert output == (FrameType.STDOUT, b"hi\n")
    assert end == (FrameType.EXIT, encode_exit(0, messages.ExitInfo(reason=ExitReason.EXITED).to_json()))
