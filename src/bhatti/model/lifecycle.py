"""The life of a sandbox as a table.

Theory of operation. A sandbox is *creating* from the moment its row is written until its agent has answered. It then
*runs* until it is stopped, destroyed, or dies; what died without being told is *failed* and keeps its disk, so it can
be started again. *destroyed* is the end: nothing but its last words is kept. Whoever wants to change the status asks
`after` first; an illegal move names what can be asked for instead.
"""

import enum

from bhatti.errors import Conflict
from bhatti.model.sandbox import Status


class Event(enum.StrEnum):
    """What can happen to a sandbox."""

    READY = "ready"
    STOP = "stop"
    START = "start"
    DIE = "die"
    DESTROY = "destroy"


ORDERS = frozenset({Event.STOP, Event.START, Event.DESTROY})
"""The events that somebody can ask for; the others happen."""

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.CREATING, Event.READY): Status.RUNNING,
    (Status.CREATING, Event.DIE): Status.FAILED,
    (Status.CREATING, Event.DESTROY): Status.DESTROYED,
    (Status.RUNNING, Event.STOP): Status.STOPPED,
    (Status.RUNNING, Event.DIE): Status.FAILED,
    (Status.RUNNING, Event.DESTROY): Status.DESTROYED,
    (Status.STOPPED, Event.START): Status.RUNNING,
    (Status.STOPPED, Event.DESTROY): Status.DESTROYED,
    (Status.FAILED, Event.START): Status.RUNNING,
    (Status.FAILED, Event.DESTROY): Status.DESTROYED,
}


def after(status: Status, event: Event, *, sandbox: str) -> Status:
    """Return the status that `event` leads to from `status`.

    Raises `Conflict` (code `illegal-transition`) naming `sandbox` and what can be asked for now.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        legal = sorted(event for (state, event) in TRANSITIONS if state is status and event in ORDERS)
        raise Conflict(
            f"sandbox {sandbox!r} is {status}: cannot {event} it",
            hint=f"possible now: {', '.join(legal)}" if legal else "create a new sandbox",
            code="illegal-transition",
        ) from None
