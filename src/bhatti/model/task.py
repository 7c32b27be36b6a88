"""What becomes of long work."""

import enum


class TaskStatus(enum.StrEnum):
    """How a task is. All but `running` are ends."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"  # somebody asked for it, and it has ended without its result
    INTERRUPTED = "interrupted"  # the daemon ended before it
