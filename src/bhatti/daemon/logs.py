"""Logs: one line per event on standard error, as text for people or as JSON for programs."""

import logging
import sys
import time
import traceback
from typing import TextIO

import msgspec

from bhatti.daemon.settings import Settings
from bhatti.server.call import CURRENT

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; everything else was given as `extra` and belongs to the event."""

PLAIN = (str, int, float, bool, type(None))
"""What JSON has a form for; a program that reads the log can compute with numbers."""


class TextFormatter(logging.Formatter):
    """`2026-11-22T15:04:05.123Z info  daemon.service created id=… name=…`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and its traceback, if any, on the following ones."""
        name = record.name.removeprefix("bhatti.")
        line = f"{_moment(record)} {record.levelname.lower():7} {name}: {record.getMessage()}"
        for key, value in _extras(record).items():
            line += f" {key}={value}"
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `at`, `level`, `logger`, `message`, what the event brought, `error` if it has one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        event: dict[str, object] = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value if type(value) in PLAIN else str(value) for key, value in _extras(record).items()},
        }
        if record.exc_info:
            event["error"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return msgspec.json.encode(event).decode()


def set_up(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (standard error), in the form that is set."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def _moment(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _extras(record: logging.LogRecord) -> dict[str, object]:
    """Return what the event brought, and the id of the request that it happened in."""
    extras = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
    if request_id := CURRENT.get().request_id:
        extras.setdefault("request_id", request_id)
    return extras
