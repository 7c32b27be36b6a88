"""How errors reach the person, or the program, at the terminal: one line, a hint, an exit code; never a traceback."""

import contextlib
import json
import os
import sys
import time
import traceback

import click

from bhatti import paths
from bhatti.errors import BhattiError

DEFECT_EXIT = 70
"""EX_SOFTWARE of sysexits(3)."""


def report(error: BaseException, *, as_json: bool = False) -> int:
    """Tell of `error` on standard error and return the exit code that goes with it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.exceptions.Abort):
        return 130
    if isinstance(error, BhattiError):
        _say(error.message, error.code, error.advice, error.exit_code, as_json=as_json)
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        sys.stderr.write(error.format_message() + "\n")
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error, as_json=as_json)
    log = _write_down(error)
    where = f"the details are in {log}" if log else "the details could not be written down"
    message = f"a defect of bhatti: {type(error).__name__}: {str(error)[:200]}"
    _say(message, "internal", where, DEFECT_EXIT, as_json=as_json)
    return DEFECT_EXIT


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    from bhatti.cli.suggestions import meant  # for those who need it

    context = error.ctx if isinstance(error, click.UsageError) else None
    better = meant(error)
    hint = better or (f"see `{context.command_path} --help`" if context is not None else None)
    # click makes suggestions of its own, in the message; ours know the words of other tools as well.
    message = error.message if better else error.format_message()
    _say(message, "usage", hint, error.exit_code, as_json=as_json)
    return error.exit_code


def _say(message: str, code: str, hint: str | None, exit_code: int, *, as_json: bool) -> None:
    if as_json:
        document = {"error": message, "code": code, "hint": hint, "exit_code": exit_code}
        sys.stderr.write(json.dumps({key: value for key, value in document.items() if value is not None}) + "\n")
        return
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    name, dim, end = ("\033[31mbhatti:\033[0m", "\033[2m", "\033[0m") if coloured else ("bhatti:", "", "")
    sys.stderr.write(f"{name} {message}\n")
    if hint:
        sys.stderr.write(f"{dim}hint: {hint}{end}\n")


def _write_down(error: BaseException) -> str | None:
    """Append the traceback to a log in the state directory; return its path, None if that cannot be written."""
    path = f"{paths.state_dir()}/cli.log"
    with contextlib.suppress(OSError):
        os.makedirs(paths.state_dir(), mode=0o700, exist_ok=True)  # noqa: PTH103  # paths are text here
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as log:
            log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} {' '.join(sys.argv)[:500]}\n")
            traceback.print_exception(error, file=log)
        return path
    return None
