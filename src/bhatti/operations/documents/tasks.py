"""Long work."""

import datetime
from typing import Annotated, Literal

import msgspec

from bhatti.errors import ErrorBody
from bhatti.model.task import TaskStatus
from bhatti.operations.documents.base import Answer, Event, Request
from bhatti.operations.documents.images import ImageBuild, ImageImport, ImagePull

MAX_WAIT_S = 86_400.0


class TaskStart(Request, frozen=True, kw_only=True, rename={"import_": "import"}):
    """What to begin: one of the three."""

    build: ImageBuild | None = None
    import_: ImageImport | None = None
    pull: ImagePull | None = None


class Task(Answer, frozen=True, kw_only=True):
    """Long work, which goes on whoever waits for it.

    `kind` is what is done (`image-build`, `image-import`, `image-pull`) and `subject` to what. While it runs, `stage`
    is what it is at, `done` of `total` units of that; `cancelling` says that somebody wants it to end, which it does
    at its next step. An `interrupted` one ended with the daemon that ran it. `image` is the name of what it has made.
    """

    id: str
    kind: str
    subject: str
    status: TaskStatus
    begun_at: datetime.datetime
    ended_at: datetime.datetime | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    cancelling: bool = False
    error: ErrorBody | None = None
    image: str | None = None


class TaskWaitQuery(Request, frozen=True, kw_only=True):
    """How long to wait at most; without it, until the task has ended."""

    timeout_sec: Annotated[float, msgspec.Meta(gt=0, le=MAX_WAIT_S)] | None = None


class TaskEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a task's stream: the task as it is, now and at each step; steps that nobody had time for are left out.

    The last line is the task as it has ended, or as it is when the time is up. `alive` comes when nothing has happened
    for some seconds.
    """

    type: Literal["task", "alive", "error"]
    task: Task | None = None
