"""Telling of machines that have ended without an order, for whoever wants to know before somebody looks."""

from collections.abc import Callable


class Deaths:
    """Passes the ids of sandboxes on whose machines have died; until somebody listens, to nobody."""

    def __init__(self) -> None:
        self._listener: Callable[[str], None] | None = None

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called from now on, in the event loop, in the place of any other. It must not raise."""
        self._listener = listener

    def died(self, sandbox_id: str) -> None:
        """Tell of a machine whose cause of death is known by now; more than once is no harm."""
        if self._listener is not None:
            self._listener(sandbox_id)
