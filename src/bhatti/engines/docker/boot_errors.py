"""Why a container did not come up, in words that help."""

from bhatti.engines.base import CauseOfDeath
from bhatti.errors import BhattiError, EngineFailure, GuestTimeout
from bhatti.model.sandbox import SandboxSpec

SHOWN_LINES = 5
SHOWN_CHARACTERS = 600


def died(spec: SandboxSpec, cause: CauseOfDeath) -> BhattiError:
    """Return the error for a container that ended before its agent answered."""
    return EngineFailure(
        f"sandbox {spec.name!r} died while it started: {cause.detail}{_output(cause.console_tail)}",
        hint="ask for more memory" if cause.kind == "oom" else "try again; if it stays, see `bhatti doctor`",
        code="boot-failed",
    )


def silent(spec: SandboxSpec, timeout_s: float, console_tail: str) -> BhattiError:
    """Return the error for a container whose agent did not answer in time."""
    return GuestTimeout(
        f"the agent of sandbox {spec.name!r} did not answer within {timeout_s:g} s{_output(console_tail)}",
        hint="raise boot_timeout_s if the host is slow; see `bhatti doctor`",
        code="boot-timeout",
    )


def _output(text: str) -> str:
    """Return the end of a container's output as the end of a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = " | ".join(lines[-SHOWN_LINES:])[-SHOWN_CHARACTERS:]
    return f"; it said last: {shown}" if shown else "; it said nothing"
