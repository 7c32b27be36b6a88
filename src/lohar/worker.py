"""The one other thread: for system calls that may block for long, which are fsync and sync.

A disk may take seconds to write back a big upload; terminals and commands must not wait for it. The thread starts at
the first need, does one job at a time in order, and never touches the agent's state: results come back as callbacks in
the loop. `_thread` rather than `threading`, which would be a tenth of the agent's start-up.
"""

from __future__ import annotations

import _thread
import functools
import os
from _queue import SimpleQueue

from lohar.poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lohar.loop import Loop

    Job = Callable[[], None]
    Done = Callable[[OSError | None], None]


class Worker:
    """Runs blocking calls one after the other, beside the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Job, Done]] = SimpleQueue()
        self._results: SimpleQueue[tuple[Done, OSError | None]] = SimpleQueue()
        self._wake = (-1, -1)

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` in the thread, then `done(error)` in the loop; `error` is the `OSError` it raised, if any."""
        if self._wake == (-1, -1):
            self._wake = os.pipe()
            os.set_blocking(self._wake[0], False)
            self._loop.register(self._wake[0], READ, self._finished)
            _thread.start_new_thread(self._work, ())
        self._jobs.put((job, done))

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            error = None
            try:
                job()
            except OSError as failure:
                error = failure
            self._results.put((done, error))
            os.write(self._wake[1], b"\0")

    def _finished(self, _mask: int) -> None:
        count = len(os.read(self._wake[0], 4096))
        for _ in range(count):
            done, error = self._results.get()
            # Each by itself: what one does must not keep the others from theirs.
            self._loop.call_soon(functools.partial(done, error))
