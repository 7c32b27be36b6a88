"""How commands answer: with one thing, with a list, or with what became of each of several names."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from bhatti.cli import output
from bhatti.cli.session import print_json
from bhatti.errors import BhattiError

T = TypeVar("T")


def answer(value: object, text: str, *, as_json: bool, quiet: bool = False) -> None:
    """Print `value` as JSON, or `text` for people, or nothing."""
    if as_json:
        print_json(value)
    elif not quiet:
        click.echo(text)


def listed(
    found: Sequence[T],
    headings: Sequence[str],
    row: Callable[[T], Sequence[str]],
    *,
    as_json: bool,
    names: Callable[[T], str] | None = None,
) -> None:
    """Print what was found: as JSON, or the names alone (for `--quiet`), or a table of rows below headings."""
    if as_json:
        print_json(found)
    elif names is not None:
        for one in found:
            click.echo(names(one))
    else:
        output.table(headings, [row(one) for one in found])


def removed(
    names: Sequence[str],
    remove: Callable[[str], str],
    done: str,
    *,
    force: bool = False,
    as_json: bool,
    quiet: bool,
) -> None:
    """Remove things one by one and tell of each; one that fails does not keep the others from going.

    `remove` removes what has a name and returns the outcome that JSON tells; `done` is the word for people. With
    `force`, what is not there does not count as a failure. Raises the first failure, when all the others are done.
    """
    failure: BhattiError | None = None
    outcomes: dict[str, str] = {}
    for name in names:
        try:
            outcomes[name] = remove(name)
        except BhattiError as err:
            absent = force and err.http_status == 404
            outcomes[name] = "absent" if absent else err.code
            failure = failure or (None if absent else err)
            continue
        if not (as_json or quiet):
            click.echo(done if len(names) == 1 else f"{name}: {done}")
    if as_json:
        print_json(outcomes)
    if failure is not None:
        raise failure
