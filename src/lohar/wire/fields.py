"""Kinds of fields: how a value of a record is checked, and how it becomes JSON and comes back.

Each function declares one field of a `Record`. They have no state beyond their bounds, do no I/O, and raise nothing but
`MessageError`, which names the field.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from lohar.wire.records import Record

MISSING: Any = object()
"""The default of a field that must be given."""

MAX_SHOWN = 60
"""How much of a wrong value an error message repeats: enough to recognise it, too little to fill a log."""


class MessageError(ValueError):
    """A message breaks its description. `field` names the culprit (`files[/etc/motd].mode`); empty: all of it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem

    def inside(self, outer: str) -> MessageError:
        """Return the same error seen from the record or list around it."""
        return MessageError(f"{outer}.{self.field}" if self.field else outer, self.problem)


def wrong(field: str, wanted: str, value: object) -> MessageError:
    """Return the error that says what `field` should have been and shows the beginning of what it is."""
    shown = repr(value)
    if len(shown) > MAX_SHOWN:
        shown = shown[: MAX_SHOWN - 3] + "..."
    return MessageError(field, f"expected {wanted}, got {shown}")


class Field:
    """One field: its check, its two conversions, its default and whether the default is left out of JSON.

    `check(field, value)` returns the value to keep or raises `MessageError`; `load` does the same for a value out of
    JSON; `dump` makes one for JSON. A field without default must be given. `always` sends the field even when it has
    its default value (as the reference protocol does for most of its answers).
    """

    __slots__ = ("always", "check", "default", "dump", "key", "load", "setter")

    def __init__(
        self,
        check: Callable[[str, Any], Any],
        default: object,
        always: bool,
        load: Callable[[str, Any], Any] | None = None,
        dump: Callable[[Any], Any] | None = None,
    ) -> None:
        self.check = check
        self.load = load or check
        self.dump = dump
        self.default = default
        self.always = always or default is MISSING
        self.key = ""
        self.setter: Callable[[object, object], None]


def text(*, default: str | None = MISSING, always: bool = False, nul: bool = False, maximum: int = 1 << 20) -> Any:  # noqa: ANN401
    """Declare text of at most `maximum` characters; NUL is refused unless `nul`, because no path or variable has it.

    Bytes that are not UTF-8 (file names may be anything) travel as the lone surrogates U+DC80 to U+DCFF that Python's
    `surrogateescape` makes of them; any other lone surrogate is refused.
    """

    def check(field: str, value: Any) -> str:  # noqa: ANN401
        if value.__class__ is not str:
            if not isinstance(value, str):
                raise wrong(field, "text", value)
            value = str(value)
        if not value.isascii():
            try:
                value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise wrong(field, "text without lone surrogates", value) from None
        if len(value) > maximum:
            raise wrong(field, f"at most {maximum} characters", value)
        if not nul and "\0" in value:
            raise wrong(field, "text without NUL", value)
        return value  # type: ignore[no-any-return]

    return Field(check, default, always)


def choice(kind: Callable[[str], object], *, default: object = MISSING, always: bool = False) -> Any:  # noqa: ANN401
    """Declare one of the values of the string enumeration `kind`."""

    def check(field: str, value: Any) -> object:  # noqa: ANN401
        try:
            return kind(value)
        except ValueError:
            names = ", ".join(str(item) for item in kind)  # type: ignore[attr-defined]
            raise wrong(field, f"one of {names}", value) from None

    return Field(check, default, always, dump=str)


def number(
    *, default: int | None = MISSING, always: bool = False, minimum: int = -(1 << 63), maximum: int = (1 << 63) - 1
) -> Any:  # noqa: ANN401
    """Declare a whole number between `minimum` and `maximum`, both allowed. Without bounds: a signed 64-bit one."""

    def check(field: str, value: Any) -> int:  # noqa: ANN401
        if value.__class__ is not int and (not isinstance(value, int) or isinstance(value, bool)):
            raise wrong(field, "a whole number", value)
        if not minimum <= value <= maximum:
            raise wrong(field, f"a number from {minimum} to {maximum}", value)
        return int(value)

    return Field(check, default, always)


def real(*, default: float | None = MISSING, always: bool = False, minimum: float = 0.0, maximum: float = 1e15) -> Any:  # noqa: ANN401
    """Declare a number, whole or not, between `minimum` and `maximum`."""

    def check(field: str, value: Any) -> float:  # noqa: ANN401
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise wrong(field, f"a number from {minimum:g} to {maximum:g}", value)
        return float(value)

    return Field(check, default, always)


def flag(*, default: bool = MISSING, always: bool = False) -> Any:  # noqa: ANN401
    """Declare a truth value."""

    def check(field: str, value: Any) -> bool:  # noqa: ANN401
        if value is not True and value is not False:
            raise wrong(field, "true or false", value)
        return value

    return Field(check, default, always)


def blob(*, default: bytes | None = MISSING, minimum: int = 0, maximum: int = 1 << 20, always: bool = False) -> Any:  # noqa: ANN401
    """Declare bytes of the given length, base64 in JSON."""

    def check(field: str, value: Any) -> bytes:  # noqa: ANN401
        if not isinstance(value, bytes) or not minimum <= len(value) <= maximum:
            raise wrong(field, f"{minimum} to {maximum} bytes", value)
        return value

    def load(field: str, value: Any) -> bytes:  # noqa: ANN401
        try:
            return check(field, binascii.a2b_base64(value, strict_mode=True))
        except (binascii.Error, TypeError, ValueError) as error:
            if isinstance(error, MessageError):
                raise
            raise wrong(field, "base64 text", value) from None

    def dump(value: bytes) -> str:
        return binascii.b2a_base64(value, newline=False).decode("ascii")

    return Field(check, default, always, load, dump)


def items(item: Field, *, default: tuple[object, ...] = MISSING, always: bool = False) -> Any:  # noqa: ANN401
    """Declare a list (kept as a tuple) whose members are each what the field `item` describes."""

    def walk(field: str, value: Any, each: Callable[[str, Any], Any]) -> tuple[Any, ...]:  # noqa: ANN401
        if not isinstance(value, (list, tuple)):
            raise wrong(field, "a list", value)
        return tuple([each(f"{field}[{index}]", member) for index, member in enumerate(value)])

    def check(field: str, value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        return walk(field, value, item.check)

    def load(field: str, value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        return walk(field, value, item.load)

    def dump(value: tuple[Any, ...]) -> list[Any]:
        return list(value) if item.dump is None else [item.dump(member) for member in value]

    return Field(check, default, always, load, dump)


def mapping(item: Field, *, default: Mapping[str, object] = MISSING, always: bool = False) -> Any:  # noqa: ANN401
    """Declare an object with free keys (text without NUL, not empty) whose values are what `item` describes."""
    name = text(maximum=4096).check

    def walk(field: str, value: Any, each: Callable[[str, Any], Any]) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(value, dict):
            raise wrong(field, "an object", value)
        if "" in value:
            raise MessageError(field, "an empty key")
        return {name(field, key): each(f"{field}[{key}]", member) for key, member in value.items()}

    def check(field: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        return walk(field, value, item.check)

    def load(field: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        return walk(field, value, item.load)

    def dump(value: dict[str, Any]) -> dict[str, Any]:
        return value if item.dump is None else {key: item.dump(member) for key, member in value.items()}

    return Field(check, default, always, load, dump)


def nested(kind: type[Record], *, default: Record | None = MISSING, always: bool = False) -> Any:  # noqa: ANN401
    """Declare a record inside a record."""

    def check(field: str, value: Any) -> Record:  # noqa: ANN401
        if not isinstance(value, kind):
            raise wrong(field, kind.__name__, value)
        return value

    def load(field: str, value: Any) -> Record:  # noqa: ANN401
        try:
            return kind.from_object(value)
        except MessageError as error:
            raise error.inside(field) from None

    return Field(check, default, always, load, kind.to_object)
