"""`bhatti task ls`, `inspect`, `cancel` and `wait`."""

import click

from bhatti.cli import output, progress
from bhatti.cli.aliases import Aliased
from bhatti.cli.answers import answer, listed
from bhatti.cli.session import client, json_option, print_json, quiet_option
from bhatti.errors import BhattiError, Unavailable, from_body
from bhatti.model.task import TaskStatus
from bhatti.operations import table, types


@click.group(cls=Aliased)
def task() -> None:
    """List, show, cancel and wait for long work, such as the making of images. It goes on whoever waits for it.

    Example: bhatti task ls
    """


@task.command()
@json_option
@quiet_option
def ls(as_json: bool, quiet: bool) -> None:
    """List the tasks that run, and those that ended in the last 24 hours.

    Example: bhatti task ls
    """
    found = client().call(table.TASK_LIST)
    headings = ("ID", "KIND", "SUBJECT", "STATUS", "STAGE", "AGE")
    listed(found, headings, _row, as_json=as_json, names=(lambda one: one.id) if quiet else None)


def _row(found: types.Task) -> tuple[str, ...]:
    status = "cancelling" if found.cancelling else found.status
    return found.id, found.kind, found.subject, status, _stage(found) or "-", output.age(found.begun_at)


def _stage(found: types.Task) -> str:
    share = f" {found.done * 100 // found.total} %" if found.total else ""
    return f"{found.stage}{share}" if found.status is TaskStatus.RUNNING else ""


@task.command()
@click.argument("task_id", metavar="ID")
@json_option
def inspect(task_id: str, as_json: bool) -> None:
    """Show one task.

    Example: bhatti task inspect "$(bhatti task ls --quiet | head -n 1)"
    """
    found = client().call(table.TASK_GET, task=task_id)
    if as_json:
        print_json(found)
        return
    rows = [("id", found.id), ("kind", found.kind), ("subject", found.subject), ("status", found.status)]
    rows += [("stage", stage)] if (stage := _stage(found)) else []
    rows += [("begun", f"{found.begun_at:%Y-%m-%d %H:%M:%S} UTC, {output.age(found.begun_at)} ago")]
    rows += [("ended", f"{found.ended_at:%Y-%m-%d %H:%M:%S} UTC")] if found.ended_at else []
    rows += [("image", found.image)] if found.image else []
    rows += [("error", found.error.error)] if found.error else []
    output.pairs(rows)


@task.command()
@click.argument("task_id", metavar="ID")
@json_option
@quiet_option
def cancel(task_id: str, as_json: bool, quiet: bool) -> None:
    """Ask a task to end without its result, which it does at its next step.

    Example: bhatti task cancel task_5f0c2b9a7d31
    """
    found = client().call(table.TASK_CANCEL, task=task_id)
    answer(found, "cancelling", as_json=as_json, quiet=quiet)


@task.command()
@click.argument("task_id", metavar="ID")
@json_option
@quiet_option
def wait(task_id: str, as_json: bool, quiet: bool) -> None:
    """Show how far a task is until it has ended; fails as the task has failed.

    Leaving with Ctrl-C does not end the task.

    Example: bhatti task wait "$(bhatti image build --detach)"
    """
    last: types.Task | None = None
    with progress.shown(task_id, quiet=quiet or as_json) as report:
        for event in client().stream(table.TASK_WAIT, None, types.TaskEvent, task=task_id):
            if event.task is not None:
                last = event.task
                report(last.stage, last.done, last.total)
    if last is None or last.status is TaskStatus.RUNNING:
        raise Unavailable(f"{task_id} goes on, but the daemon tells no more of it", code="connection-lost")
    if last.status is not TaskStatus.DONE:
        raise _failure(last)
    answer(last, last.image or last.status, as_json=as_json, quiet=quiet)


def _failure(ended: types.Task) -> BhattiError:
    if ended.error is not None:
        return from_body(0, ended.error)
    hint = "begin it again; finished parts are kept"
    return Unavailable(f"{ended.id} was interrupted: its daemon ended", hint=hint, code="task-interrupted")


COMMANDS = {"task": task}
