"""Changes of files as they happen, for threads."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from bhatti.operations import table, types
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import Endpoint


class Watch:
    """Iterate over what happens; leave by the end of the block. Inside it nothing is missed.

    Each is a `FileEvent` of type `change`, or `overflow` when so much has happened that some was lost.
    """

    def __init__(self, endpoint: Endpoint, sandbox_id: str, query: dict[str, str]) -> None:
        self._client = Client(endpoint)
        self._events = self._client.stream(table.FILE_WATCH, None, types.FileEvent, query, id=sandbox_id)
        self._begun = False

    def __enter__(self) -> Self:
        if not self._begun:
            try:
                next(self._events)  # `ready`
            except BaseException:
                self.close()
                raise
            self._begun = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[types.FileEvent]:
        return self

    def __next__(self) -> types.FileEvent:
        """Return the next change; raises `StopIteration` when the time is up."""
        self.__enter__()
        for event in self._events:
            if event.type in ("change", "overflow"):
                return event
        raise StopIteration

    def close(self) -> None:
        """Watch no longer."""
        self._client.close()
