"""Why a machine did not come up, in words that help."""

from bhatti.engines.base import CauseOfDeath
from bhatti.errors import BhattiError, EngineFailure, GuestTimeout, OutOfSpace
from bhatti.model.sandbox import SandboxSpec

SHOWN_LINES = 5
SHOWN_CHARACTERS = 600


def died(spec: SandboxSpec, cause: CauseOfDeath) -> BhattiError:
    """Return the error for a machine whose process ended before its agent answered."""
    if cause.kind == "disk-full":
        return OutOfSpace(f"sandbox {spec.name!r} died while it booted: {cause.detail}", hint="free disk space")
    return EngineFailure(
        f"sandbox {spec.name!r} died while it booted: {cause.detail}{_console(cause.console_tail)}",
        hint="try again; if it stays, see `bhatti doctor`",
        code="boot-failed",
    )


def silent(spec: SandboxSpec, timeout_s: float, console_tail: str) -> BhattiError:
    """Return the error for a machine whose agent did not answer in time."""
    return GuestTimeout(
        f"the agent of sandbox {spec.name!r} did not answer within {timeout_s:g} s{_console(console_tail)}",
        hint="raise boot_timeout_s if the host is slow; see `bhatti doctor`",
        code="boot-timeout",
    )


def _console(text: str) -> str:
    """Return the end of a console as the end of a message.

    After a panic the kernel prints its registers, which help nobody here: what came before is why it panicked.
    """
    before, panic, _ = text.partition("Kernel panic - not syncing")
    text = before.rpartition("\n")[0] if panic else text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = " | ".join(lines[-SHOWN_LINES:])[-SHOWN_CHARACTERS:]
    return f"; its console ends with: {shown}" if shown else "; its console is empty"
