"""Frozen, slotted value classes with a strict JSON codec: what every message of the wire is made of.

The job is that of `dataclasses` with a decoder on top. Hand-made, because the guest agent has 14 MB and 150 ms to start
in: importing `dataclasses` (which brings `inspect`) and decorating thirty classes was measured at 45 ms and 2.4 MB of
resident memory, this module at 3 ms and 0.2 MB. Type checkers see ordinary data classes (`dataclass_transform`).

A field is declared with its kind, which knows how to check a value and how to turn it into JSON and back. One without
`default=` must be given:

    class ForwardRequest(Record):
        port: int = number(maximum=65535)

Values are checked when a record is made, whether from JSON or by hand, so that a record in hand is always valid.
"""

from __future__ import annotations

import json
from json.scanner import make_scanner

from lohar.wire.fields import (
    MISSING,
    Field,
    MessageError,
    blob,
    choice,
    flag,
    items,
    mapping,
    nested,
    number,
    real,
    text,
    wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_):  # noqa: ANN003, ANN201 - a stand-in for the type checker's decorator
        """Leave the class alone: only type checkers need the decorator, and `typing` costs 5 ms to import."""
        return lambda cls: cls


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(text, choice, number, real, flag, blob, items, mapping, nested),
)
class _RecordType(type):
    """Turns the declared fields of a class into slots and a table."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        fields = {key: value for key, value in namespace.items() if isinstance(value, Field)}
        body = {key: value for key, value in namespace.items() if key not in fields}
        body["__slots__"] = tuple(fields)
        cls = super().__new__(mcs, name, bases, body)
        for key, field in fields.items():
            field.key = key
            # The slot's own setter: it goes round __setattr__, which refuses.
            field.setter = cls.__dict__[key].__set__
        cls._fields = fields  # type: ignore[attr-defined]
        cls._required = tuple(key for key, field in fields.items() if field.default is MISSING)  # type: ignore[attr-defined]
        cls._defaults = tuple(  # type: ignore[attr-defined]
            (field.setter, field.default) for field in fields.values() if field.default is not MISSING
        )
        return cls


class Record(metaclass=_RecordType):
    """Base of all messages: made with keywords, compared by value, never changed, at home in JSON."""

    if TYPE_CHECKING:
        __slots__: ClassVar[tuple[str, ...]]
        _fields: ClassVar[dict[str, Field]]
        _required: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[tuple[tuple[Callable[[object, object], None], object], ...]]
    else:

        def __init__(self, **values):  # noqa: ANN003, ANN204 - type checkers make the signature from the fields
            fields = self._fields
            for setter, default in self._defaults:
                setter(self, default)
            for key, value in values.items():
                field = fields.get(key)
                if field is None:
                    raise TypeError(f"{type(self).__name__} has no field {key}")
                if value is not None:
                    field.setter(self, field.check(key, value))
            self._check_complete()

    def _check_complete(self) -> None:
        for key in self._required:
            if not hasattr(self, key):
                raise MessageError(key, "missing")

    @classmethod
    def from_object(cls, value: object) -> Self:
        """Make the record from a decoded JSON value.

        Unknown keys are ignored, so that peers of different age understand each other; keys match without regard to
        case, exact ones first come; null means unset. Raises `MessageError` that names the field.
        """
        if not isinstance(value, dict):
            raise wrong("", "an object", value)
        fields = cls._fields
        record = cls.__new__(cls)
        for setter, default in cls._defaults:
            setter(record, default)
        for key, member in value.items():
            field = fields.get(key) or fields.get(key.lower())
            if field is not None and member is not None:
                field.setter(record, field.load(field.key, member))
        record._check_complete()
        return record

    @classmethod
    def from_json(cls, payload: bytes | bytearray | memoryview) -> Self:
        """Make the record from JSON text in UTF-8. Raises `MessageError`; see `from_object`."""
        return cls.from_object(decode_json(payload))

    def to_object(self) -> dict[str, Any]:
        """Return the record as JSON's own types, without the optional fields that have their default value."""
        result = {}
        for key, field in self._fields.items():
            value = getattr(self, key)
            if value is None or (not field.always and value == field.default):
                continue
            result[key] = value if field.dump is None else field.dump(value)
        return result

    def to_json(self) -> bytes:
        """Return the record as JSON text (ASCII: everything else is escaped)."""
        return encode_json(self.to_object())

    def replace(self, **changes: object) -> Self:
        """Return a copy with some fields changed."""
        return type(self)(**{**{key: getattr(self, key) for key in self._fields}, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, key) == getattr(other, key) for key in self._fields)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, key) for key in self._fields))

    def __repr__(self) -> str:
        inner = ", ".join(f"{key}={getattr(self, key)!r}" for key in self._fields)
        return f"{type(self).__name__}({inner})"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_SPACES = " \t\n\r"

_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_DECODER)  # type: ignore[arg-type]
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def decode_json(payload: bytes | bytearray | memoryview) -> object:
    """Decode JSON text in UTF-8; its size is bounded by the frame that carried it. Raises `MessageError`.

    NaN and Infinity, numbers of thousands of digits and nesting beyond the interpreter's recursion limit (1000) are
    refused like any other text that is no JSON.
    """
    try:
        text = str(payload, "utf-8").strip(_SPACES)
        # What `JSONDecoder.decode` does, without two regular expressions and two functions around it: half the time.
        value, end = _scan(text, 0)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except StopIteration as error:
        raise MessageError("", f"not JSON: expected a value at character {error.value}") from None
    except RecursionError:
        raise MessageError("", "JSON nested too deeply") from None
    except ValueError as error:
        raise MessageError("", f"not JSON: {str(error)[:200]}") from None
    return value


def encode_json(value: object) -> bytes:
    """Encode JSON's own types compactly, in ASCII."""
    return _ENCODER.encode(value).encode("ascii")


def decode_list(kind: type[R], payload: bytes | bytearray | memoryview) -> list[R]:
    """Decode a JSON array of records. `null` is empty: the reference agent's way. Raises `MessageError`."""
    value = decode_json(payload)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong("", "a list", value)
    result = []
    for index, member in enumerate(value):
        try:
            result.append(kind.from_object(member))
        except MessageError as error:
            raise error.inside(f"[{index}]") from None
    return result


def encode_list(records: Iterable[Record]) -> bytes:
    """Encode records as a JSON array."""
    return encode_json([record.to_object() for record in records])
