"""The guest's serial console on the host: its tail, its size, and what it tells about a boot or a death."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

MAX_CONSOLE_BYTES = 1 << 20
"""A console above this is cut. The guest writes it, so it must have a bound."""

KEPT_BYTES = 256 << 10
"""What is kept of the end when a console is cut."""

TRIM_INTERVAL_S = 10.0
"""How often consoles are looked at. An emulated serial port brings some MiB in that time, which is no harm."""

READY_MARK = "lohar: ready "
"""How the agent's one line begins; JSON of its boot's parts in ms follows."""

MAX_TIMINGS = 4096
"""Of that JSON, which has a dozen parts: a guest may write anything there."""


def tail(path: Path, max_bytes: int) -> str:
    """Return the last `max_bytes` of a console, undecodable bytes replaced; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            return file.read(max_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""


def trim(path: Path, *, max_bytes: int = MAX_CONSOLE_BYTES, kept_bytes: int = KEPT_BYTES) -> bool:
    """Cut a console that has grown above `max_bytes` to its last `kept_bytes`; return whether it was cut.

    QEMU goes on appending meanwhile (O_APPEND): what it writes during the cut may be lost or come before the kept
    part, which is a fair price in a log that somebody is flooding.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    with path.open("rb") as file:
        file.seek(-kept_bytes, os.SEEK_END)
        kept = file.read(kept_bytes)
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(kept)
    return True


def boot_timings(text: str) -> dict[str, float]:
    """Return what the agent said about the parts of its boot, in ms; empty if it has not said it (well)."""
    line = text[text.rfind(READY_MARK + "{") :].partition("\n")[0][: len(READY_MARK) + MAX_TIMINGS]
    try:
        return msgspec.json.decode(line[len(READY_MARK) : line.rfind("}") + 1], type=dict[str, float])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return {}


def trim_all(consoles: Iterable[Path]) -> None:
    """Cut each of them as `trim` does. Blocks."""
    for path in consoles:
        trim(path)


class Trimmer:
    """Cuts consoles every now and then, from `begin` to `end`; `consoles` says which there are."""

    def __init__(self, consoles: Callable[[], list[Path]]) -> None:
        self._consoles = consoles
        self._next: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin to wait for the first time."""
        self._next = asyncio.get_running_loop().call_later(TRIM_INTERVAL_S, self.trim_now)

    def end(self) -> None:
        """Do it no more. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def trim_now(self) -> asyncio.Future[None]:
        """Cut what has grown; the future ends when that is done."""
        trimming = asyncio.get_running_loop().run_in_executor(None, trim_all, self._consoles())
        trimming.add_done_callback(self._trimmed)
        return trimming

    def _trimmed(self, trimming: asyncio.Future[None]) -> None:
        if trimming.exception() is not None:
            log.error("a console could not be cut: %s", trimming.exception())
        if self._next is not None:
            self.begin()
