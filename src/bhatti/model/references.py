"""What people type in place of an id: its beginning, if no other id begins so."""

from collections.abc import Iterable

from bhatti.errors import InvalidRequest

MIN_PREFIX = 3
"""Shorter beginnings of ids are more likely typing errors. What says the kind (`task_`) does not count."""

SHOWN = 5


def by_beginning(ref: str, ids: Iterable[str]) -> str | None:
    """Return the one of `ids` that begins with `ref`, None if there is none or `ref` is too short.

    Raises `InvalidRequest` (code `ambiguous-id`) if there are several.
    """
    matches = sorted(one for one in ids if one.startswith(ref) and len(ref) - (one.rfind("_") + 1) >= MIN_PREFIX)
    if len(matches) > 1:
        raise InvalidRequest(
            f"{ref!r} is the beginning of {len(matches)} ids: {', '.join(matches[:SHOWN])}",
            hint="give more of the id, or the name",
            code="ambiguous-id",
        )
    return matches[0] if matches else None
