"""Long work: it goes on whoever waits for it, says how far it is, and can be cancelled.

Theory of operation. A task is an order (`orders`): no caller's leaving ends it. Its row is written when it begins and
when it ends, so that what a start finds running was interrupted. How far it is, is known in memory alone. Work that is
to end learns it at its next step (`Job.step` raises there), because a thread cannot be stopped from outside.
"""

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import msgspec

from bhatti.daemon.orders import Orders, stopping
from bhatti.errors import BhattiError, Conflict, LimitExceeded, NotFound
from bhatti.model.references import by_beginning
from bhatti.model.task import TaskStatus
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.backend import BuildCallback
from bhatti.server.jobs import TaskBackend
from bhatti.store.sandboxes import now
from bhatti.store.tasks import KEPT, TaskJournal, TaskRecord

log = logging.getLogger(__name__)

OF_ONE_USER = 8
"""Tasks of a user that may run at once: nobody waits for them, so that their number is bounded by nothing else."""


class Job:
    """A task that this daemon has begun, or finds in its store."""

    def __init__(self, record: TaskRecord, on_progress: BuildCallback | None = None) -> None:
        self.record = record
        self.at = types.BuildEvent(type="progress")
        self.cancelling = False
        self.result: types.Image | None = None
        self.error: BhattiError | None = None
        self.changed = anyio.Event()
        self.written_down = anyio.Event()
        self._on_progress = on_progress

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.record.status is not TaskStatus.RUNNING

    def check(self) -> None:
        """Raise `Conflict` (code `task-cancelled`) if it is to end; called by the work, from any thread."""
        if self.cancelling:
            raise Conflict(
                f"the task {self.record.id} was cancelled",
                hint="begin it again; finished parts are kept",
                code="task-cancelled",
            )

    def step(self, event: types.BuildEvent) -> None:
        """Take note of how far it is."""
        self.at = event
        self.tell()
        if self._on_progress is not None:
            self._on_progress(event)

    def end(self, status: TaskStatus) -> None:
        """Take note of how it has ended."""
        self.record = msgspec.structs.replace(
            self.record,
            status=status,
            ended_at=now(),
            error=None if self.error is None else self.error.body(),
            image=None if self.result is None else self.result.name,
        )
        self.written_down.set()

    def tell(self) -> None:
        """Wake those who wait for a change."""
        self.changed.set()
        self.changed = anyio.Event()


Work = Callable[[Job], Awaitable[types.Image]]
"""Does the work of a task, with calls of `step` and `check`."""


class Tasks(TaskBackend):
    """The tasks of one daemon. `start` makes it ready; `end` sends those away who wait."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._jobs: dict[str, Job] = {}
        self._journal: TaskJournal | None = None
        self._ended = False

    async def start(self, journal: TaskJournal) -> None:
        """Give an end to what an earlier daemon left, and serve from now on."""
        await journal.interrupt(now())
        self._jobs = {record.id: Job(record) for record in await journal.everything()}
        self._journal = journal

    def end(self) -> None:
        """Let those go who wait; the tasks themselves are orders, which end as such."""
        self._ended = True
        for job in self._jobs.values():
            job.tell()

    async def begin(
        self, kind: str, subject: str, work: Work, *, owner: str = "", on_progress: BuildCallback | None = None
    ) -> Job:
        """Begin a task, and return when it is written down. When cancelled, it has begun all the same.

        Raises `LimitExceeded` (code `task-limit`) for a user of whom enough are under way.
        """
        journal = self._journal
        if journal is None or self._ended:
            raise stopping()
        if owner and sum(job.record.owner == owner and not job.over for job in self._jobs.values()) >= OF_ONE_USER:
            raise LimitExceeded(
                f"{OF_ONE_USER} tasks of yours are under way",
                hint="wait for one to end, or cancel it",
                code="task-limit",
            )
        record = TaskRecord(id=f"task_{secrets.token_hex(6)}", kind=kind, subject=subject, owner=owner, begun_at=now())
        job = Job(record, on_progress)
        self._forget_old()
        if not self._orders.later(lambda: self._carry_out(job, journal, work), f"do {record.id}"):
            raise stopping()
        self._jobs[record.id] = job
        await job.written_down.wait()
        return job

    async def run(
        self, kind: str, subject: str, work: Work, *, owner: str = "", on_progress: BuildCallback | None = None
    ) -> types.Image:
        """Begin a task, wait for it and return its result. When cancelled, it goes on.

        Raises what the work raised, and `Unavailable` (code `stopping`) when the daemon stops before it has ended.
        """
        job = await self.begin(kind, subject, work, owner=owner, on_progress=on_progress)
        while not job.over:
            await job.changed.wait()
        if job.error is not None:
            raise job.error
        if job.result is None:
            raise stopping()
        return job.result

    def list(self, caller: Caller = ADMIN) -> list[types.Task]:
        """See `TaskBackend`."""
        seen = [job for job in self._jobs.values() if caller.may_see(job.record.owner)]
        return [answer(job) for job in sorted(seen, key=lambda job: (job.record.begun_at, job.record.id), reverse=True)]

    def get(self, caller: Caller, task_id: str) -> types.Task:
        """See `TaskBackend`."""
        return answer(self._found(caller, task_id))

    def cancel(self, caller: Caller, task_id: str) -> types.Task:
        """See `TaskBackend`."""
        job = self._found(caller, task_id)
        if job.over:
            raise Conflict(
                f"the task {task_id} has ended: {job.record.status}",
                hint="`bhatti task inspect` says how",
                code="task-over",
            )
        job.cancelling = True
        job.tell()
        return answer(job)

    async def follow(self, caller: Caller, task_id: str) -> AsyncGenerator[types.Task, None]:
        """See `TaskBackend`."""
        job = self._found(caller, task_id)
        while True:
            changed = job.changed  # taken before looking: what comes meanwhile is not overlooked
            yield answer(job)
            if job.over:
                return
            if self._ended:
                raise stopping()
            await changed.wait()

    def _found(self, caller: Caller, task_id: str) -> Job:
        visible = {job.record.id: job for job in self._jobs.values() if caller.may_see(job.record.owner)}
        job = visible.get(task_id) or visible.get(by_beginning(task_id, visible) or "")
        if job is None:
            raise NotFound(
                f"there is no task {task_id!r}",
                hint="`bhatti task ls` shows those that run, and those of the last day",
                code="task-not-found",
            )
        return job

    def _forget_old(self) -> None:
        limit = now() - KEPT
        for job in [job for job in self._jobs.values() if job.record.ended_at and job.record.ended_at < limit]:
            del self._jobs[job.record.id]

    async def _carry_out(self, job: Job, journal: TaskJournal, work: Work) -> None:
        status = TaskStatus.INTERRUPTED
        try:
            await journal.note(job.record)
            job.written_down.set()
            job.result = await work(job)
            status = TaskStatus.DONE
        except Exception as err:
            status = TaskStatus.CANCELLED if job.cancelling else TaskStatus.FAILED
            if not isinstance(err, BhattiError):
                log.exception("defect in the task %s", job.record.id)
            job.error = err if isinstance(err, BhattiError) else BhattiError("internal error", hint="see the log")
        finally:
            job.end(status)
            try:
                with anyio.CancelScope(shield=True):
                    await journal.note(job.record)
            finally:
                job.tell()  # whoever waits for it must not wait for a disk that is full


def answer(job: Job) -> types.Task:
    """Return a task in the words of the API."""
    record = job.record
    return types.Task(
        id=record.id,
        kind=record.kind,
        subject=record.subject,
        status=record.status,
        begun_at=record.begun_at,
        ended_at=record.ended_at,
        stage=job.at.stage,
        done=job.at.done,
        total=job.at.total,
        cancelling=job.cancelling and not job.over,
        error=record.error,
        image=record.image,
    )
