"""Long work."""

from bhatti.errors import Conflict, Forbidden, LimitExceeded, NotFound, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams

TASK_START: Operation[types.TaskStart, types.Task] = Operation(
    name="task.start",
    method="POST",
    path="/tasks",
    summary="Begin to make an image (users: pull one), and answer at once; what calls for images begin are tasks too.",
    request=types.TaskStart,
    result=types.Task,
    status=202,
    errors=(Forbidden, LimitExceeded, Unavailable),
)
TASK_LIST: Operation[None, list[types.Task]] = Operation(
    name="task.list",
    method="GET",
    path="/tasks",
    summary="List the tasks that run, and those that ended in the last 24 hours, the newest first.",
    result=list[types.Task],
    errors=(Unavailable,),
)
TASK_GET: Operation[None, types.Task] = Operation(
    name="task.get",
    method="GET",
    path="/tasks/{task}",
    summary="Show one task.",
    result=types.Task,
    errors=(NotFound, Unavailable),
)
TASK_CANCEL: Operation[None, types.Task] = Operation(
    name="task.cancel",
    method="DELETE",
    path="/tasks/{task}",
    summary="Ask a task to end without its result, which it does at its next step.",
    result=types.Task,
    errors=(NotFound, Conflict, Unavailable),
)
TASK_WAIT: Operation[None, types.Task] = Operation(
    name="task.wait",
    method="GET",
    path="/tasks/{task}/wait",
    summary="Wait until a task has ended, and tell how; as a stream, its steps are told.",
    query=types.TaskWaitQuery,
    result=types.Task,
    event=types.TaskEvent,
    errors=(NotFound, Unavailable),
    streams=Streams.EVENTS,
)

OPERATIONS: tuple[Operation[object, object], ...] = (TASK_START, TASK_LIST, TASK_GET, TASK_WAIT, TASK_CANCEL)
