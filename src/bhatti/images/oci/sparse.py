"""Maps of sparse files in tar archives: which parts of a file have contents. GNU tar has had four formats."""

from collections.abc import Callable

from bhatti.images.oci.pax import MAX_DIGITS, Records
from bhatti.images.oci.tarfields import MalformedTar, parse_number

MAX_EXTENTS = 1 << 16
"""Of one file. A disk image of many gigabytes has some thousands."""

Extents = list[tuple[int, int]]


def version(records: Records) -> tuple[int, int] | None:
    """Return which of the pax formats a header is of, None if the file is not sparse."""
    major, minor = records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")
    if (major, minor) == (b"1", b"0"):
        return 1, 0
    if major is not None or minor is not None:
        if (major, minor) in ((b"0", b"0"), (b"0", b"1")):
            return 0, int(minor or b"0")
        raise MalformedTar(f"sparse files of format {major!r}.{minor!r} are unknown")
    return (0, 1) if "GNU.sparse.map" in records or "GNU.sparse.size" in records else None


def real_size(records: Records) -> int:
    """Return the size of the whole file."""
    return _number(records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size", b""))


def listed_map(records: Records) -> Extents:
    """Return the map of formats 0.0 and 0.1, which is in the header."""
    raw = records.get("GNU.sparse.map", b"")
    if raw.count(b",") > 2 * MAX_EXTENTS:
        raise _too_many()
    return _paired([_number(item) for item in raw.split(b",")] if raw else [])


def stored_map(read_block: Callable[[], bytes]) -> Extents:
    """Return the map of format 1.0: decimal numbers, a line each, in the blocks before the contents."""
    rest = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        line, newline, after = rest.partition(b"\n")
        if not newline:
            if len(rest) > MAX_DIGITS:
                raise MalformedTar("a sparse file's map has a number that does not end")
            rest += read_block()
            continue
        rest = after
        numbers.append(_number(line))
        if len(numbers) == 1:
            if numbers[0] > MAX_EXTENTS:
                raise _too_many()
            wanted = 1 + 2 * numbers[0]
    return _paired(numbers[1:])


def old_map(header: bytes, read_block: Callable[[], bytes]) -> tuple[Extents, int]:
    """Return map and size of the whole file in GNU's own format: four in the header, 21 in each further block."""

    def pairs(block: bytes, start: int, count: int) -> list[int]:
        fields = [block[at : at + 12] for at in range(start, start + 24 * count, 12)]
        used = next((i for i in range(0, len(fields), 2) if not fields[i][0] and not fields[i + 1][0]), len(fields))
        return [parse_number(raw) for raw in fields[:used]]

    numbers = pairs(header, 386, 4)
    more = header[482]
    while more:
        block = read_block()
        numbers += pairs(block, 0, 21)
        more = block[504]
        if len(numbers) > 2 * MAX_EXTENTS:
            raise _too_many()
    return _paired(numbers), parse_number(header[483:495])


def check(extents: Extents, stored_bytes: int, size_bytes: int) -> None:
    """Raise `MalformedTar` unless the extents are in order, inside the file, and as long as what is stored."""
    end = 0
    for offset, length in extents:
        if offset < end or length < 0:
            raise MalformedTar("the parts of a sparse file overlap")
        end = offset + length
    if end > size_bytes:
        raise MalformedTar("a sparse file has contents after its end")
    if sum(length for _, length in extents) != stored_bytes:
        raise MalformedTar("a sparse file's map does not match its contents")


def _paired(numbers: list[int]) -> Extents:
    if len(numbers) % 2:
        raise MalformedTar("a sparse file's map ends with half an entry")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _number(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > MAX_DIGITS:
        raise MalformedTar(f"a sparse file's map holds {raw[:40]!r}, which is not a number")
    return int(raw)


def _too_many() -> MalformedTar:
    return MalformedTar(f"a sparse file of more than {MAX_EXTENTS} parts")
