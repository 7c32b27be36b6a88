"""The daemon's process: `python -m bhatti.daemon serve`, and the works that commands run while no daemon does."""

import argparse
import contextlib
import gc
import importlib.util
import logging
import os
import sys

import anyio
import msgspec

from bhatti.daemon import extra, logs, settings
from bhatti.daemon.descriptors import allow_as_many_as_possible
from bhatti.daemon.notify import notify
from bhatti.daemon.offline import WORK
from bhatti.errors import BhattiError

log = logging.getLogger(__name__)

GARBAGE_EVERY = 5000
"""New objects that make the collector look for garbage among them. A request leaves some hundreds for a moment: with
Python's own limit of 700 it looked during nearly every one, and found nothing."""


def main(arguments: list[str] | None = None) -> int:
    """Run as the arguments say; return the exit code. Errors are one line, for people or (works) as JSON."""
    parsed = _parser().parse_args(arguments)
    ready = Ready(parsed.ready_fd)
    configured: settings.Settings | None = None
    try:
        configured = settings.load(parsed.set)
        os.umask(0o077)
        if parsed.work == "serve":
            _serve(configured, ready)
        else:
            WORK[parsed.work](configured, parsed.arguments)
    except Exception as error:
        err = first(error)
        if err is None:  # a defect: the log shows where, whoever waits for us gets a line
            ready.failed(BhattiError(f"the daemon has a defect: {error!r}", hint="its log has the details"))
            raise
        ready.failed(err)
        document = msgspec.json.encode(err.body()).decode() + "\n"
        if parsed.work != "serve":
            sys.stdout.write(document)
        elif "log_format=json" in parsed.set if configured is None else configured.log_format == "json":
            sys.stderr.write(document)
        else:
            sys.stderr.write(f"bhatti: {err.message}\n" + (f"hint: {err.advice}\n" if err.advice else ""))
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


class Ready:
    """Tells whoever started the daemon how that went: over a pipe, `ready` or the error as JSON; to systemd, ready."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self) -> None:
        """Say that everything is served."""
        self._say(b"ready\n")
        notify("READY=1")

    def failed(self, err: BhattiError) -> None:
        """Say why nothing will be."""
        self._say(msgspec.json.encode(err.body()) + b"\n")

    def _say(self, line: bytes) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # the one who started us may have gone
            os.write(self._descriptor, line)
            os.close(self._descriptor)
        self._descriptor = None


def first(error: BaseException) -> BhattiError | None:
    """Return our error, or the first in a group of them; None if it is none of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, BhattiError) else extra.missing(error)


def _serve(configured: settings.Settings, ready: Ready) -> None:
    from bhatti.daemon.lifetime import held, live  # a quarter of a second of imports that the works do not need

    os.chdir("/")  # whatever directory we were started in may be unmounted or removed
    logs.set_up(configured)
    allow_as_many_as_possible()
    use_uvloop = importlib.util.find_spec("uvloop") is not None

    def up() -> None:
        _spare_what_is_there()
        ready()

    with held(configured) as listeners:
        anyio.run(live, configured, listeners, up, backend_options={"use_uvloop": use_uvloop})


def _spare_what_is_there() -> None:
    """Take what has been imported and recovered out of the rounds of the garbage collector: it stays, and to look at
    all of it now and then would hold every caller up for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_EVERY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bhatti-daemon", description="The daemon. Use `bhatti serve`.")
    parser.add_argument("work", choices=["serve", *WORK])
    parser.add_argument("arguments", nargs="*", help="arguments of the work")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    parser.add_argument("--ready-fd", type=int, help="descriptor to say `ready` on, or the error as JSON")
    return parser
