"""What a container died of, from what Docker knows of its end and the last of its output."""

import signal

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.docker.api_types import ContainerState

TAIL_BYTES = 4096
"""What a cause of death holds of the console."""

SHELL_SIGNAL_BASE = 128
"""Docker reports death by signal as shells do."""


def cause_of_death(state: ContainerState, memory_mib: int, console_tail: str) -> CauseOfDeath:
    """Return why a container ended that nobody told to."""

    def cause(kind: str, detail: str) -> CauseOfDeath:
        return CauseOfDeath(kind=kind, detail=detail, console_tail=console_tail)

    number = state.exit_code - SHELL_SIGNAL_BASE
    if state.error:
        return cause("boot-failed", f"Docker could not start it: {state.error}")
    if state.oom_killed and number == signal.SIGKILL:
        # Docker says so of any process in it that was killed for memory; only together with SIGKILL it was the init.
        return cause("oom", f"it used more than its {memory_mib} MiB of memory, and the kernel killed it")
    if number > 0 and number in signal.valid_signals():
        return cause("killed", f"it was killed by {signal.Signals(number).name}")
    last = console_tail.strip().splitlines()[-1:]
    said = f": {last[0][:300]}" if state.exit_code and last else ""
    return cause("exit", f"its init ended with status {state.exit_code}{said}")


REMOVED = "its container was removed by hand, with its disk"


def removed(console_tail: str = "") -> CauseOfDeath:
    """Return the cause for a container that is not there any more."""
    return CauseOfDeath(kind="killed", detail=REMOVED, console_tail=console_tail)


def was_removed(cause: CauseOfDeath | None) -> bool:
    """Tell whether a cause is that of `removed`."""
    return cause is not None and cause.detail == REMOVED
