"""Whatever JSON arrives, or whatever is no JSON, each message is decoded or refused with `MessageError`."""

import contextlib
import inspect
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lohar.wire import messages
from lohar.wire.messages import MessageError, decode_list
from lohar.wire.records import Record

ALL_MESSAGES = [
    cls
    for _, cls in inspect.getmembers(messages, inspect.isclass)
    if issubclass(cls, Record) and cls is not Record and cls.__slots__
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 70000),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["exited", "moved-to", "AAAA", "ok", "\ud800", "a\0b", "A" * 300]),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def objects_for(cls: type[Record]) -> st.SearchStrategy[dict[str, Any]]:
    """Make objects that have the message's own keys, in any case, with anything in them."""
    keys = st.sampled_from([variant for name in cls.__slots__ for variant in (name, name.upper(), name.title())])
    return st.dictionaries(keys | st.text(max_size=8), json_values, max_size=8)


classes = st.sampled_from(ALL_MESSAGES)


@settings(max_examples=500)
@given(cls=classes, data=st.data())
def test_any_object_is_decoded_or_refused_with_a_documented_error(cls: type[Record], data: st.DataObject) -> None:
    payload = json.dumps(data.draw(objects_for(cls))).encode()
    with contextlib.suppress(MessageError):
        message = cls.from_json(payload)
        assert cls.from_json(message.to_json()) == message, "what was accepted can be sent on"


@settings(max_examples=500)
@given(cls=classes, payload=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_decoded_or_refused_with_a_documented_error(cls: type[Record], payload: bytes) -> None:
    with contextlib.suppress(MessageError):
        cls.from_json(payload)
    with contextlib.suppress(MessageError):
        decode_list(cls, payload)
