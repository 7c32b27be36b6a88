"""Extended headers of pax archives (POSIX.1-2008 pax(1)): records of `LENGTH KEY=VALUE` that replace header fields."""

import re
from collections.abc import Callable

from bhatti.images.oci.tarfields import MalformedTar

CAPABILITY = "security.capability"
"""The one extended attribute that belongs to a program; others are about the host it was packed on."""

Records = dict[str, bytes]

_XATTR = "SCHILY.xattr."
_WANTED = {"path", "linkpath", "size", "uid", "gid", "mtime", _XATTR + CAPABILITY}
_SPARSE = "GNU.sparse."
_PAIRS = (_SPARSE + "offset", _SPARSE + "numbytes")
_DECIMAL = re.compile(rb"-?[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")

MAX_DIGITS = 20
"""Of a record's length or a size: more than any number of 64 bits has."""


def parse(content: bytes) -> Records:
    """Return the records that matter here; a key with an empty value takes an earlier one back.

    The oldest format of sparse files repeats two keys; they are joined to the list that its successor has.
    """
    records: Records = {}
    pairs: list[bytes] = []
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + MAX_DIGITS)
        digits = content[at:space] if space > 0 else b""
        if not digits.isdigit():
            if content[at:].strip(b"\0"):
                raise MalformedTar("a pax record has no length")
            break
        end = at + int(digits)
        record = content[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(content) or end <= space or not equals or not record.endswith(b"\n"):
            raise MalformedTar(f"a pax record is cut off: {record[:40]!r}")
        at = end
        name = key.decode("utf-8", "replace")
        if name in _PAIRS:
            if name != _PAIRS[len(pairs) % 2]:
                raise MalformedTar("offsets and lengths of a sparse file do not alternate")
            pairs.append(value[:-1])
        elif name in _WANTED or name.startswith(_SPARSE):
            records[name] = value[:-1]
    if pairs:
        records[_SPARSE + "map"] = b",".join(pairs)
    return records


def text(records: Records, key: str) -> bytes:
    """Return a name, empty if there is none."""
    value = records.get(key, b"")
    if b"\0" in value:
        raise MalformedTar(f"{key} holds a NUL: {value[:40]!r}")
    return value


def integer(records: Records, key: str, otherwise: Callable[[], int]) -> int:
    """Return a decimal number, or what `otherwise` says when there is none."""
    value = records.get(key, b"")
    if not value:
        return otherwise()
    if not _DECIMAL.fullmatch(value):
        raise MalformedTar(f"{key} is not a number: {value[:40]!r}")
    return int(value)


def nanoseconds(records: Records, key: str, otherwise: Callable[[], int]) -> int:
    """Return a time, given in seconds with any number of decimals."""
    value = records.get(key, b"")
    if not value:
        return otherwise() * 1_000_000_000
    match = _TIME.fullmatch(value)
    if match is None:
        raise MalformedTar(f"{key} is not a time: {value[:40]!r}")
    sign, seconds, decimals = match.groups()
    amount = int(seconds) * 1_000_000_000 + int(((decimals or b"") + b"000000000")[:9])
    return -amount if sign else amount


def xattrs(records: Records) -> dict[str, bytes]:
    """Return the extended attributes that belong into an image."""
    value = records.get(_XATTR + CAPABILITY, b"")
    return {CAPABILITY: value} if value else {}
