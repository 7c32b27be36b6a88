"""What can be changed of a sandbox at any time, also while it sleeps: labels, and how eager it is to sleep."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from bhatti.errors import InvalidRequest, shortened

MAX_LABELS = 16
MAX_LABEL_KEY = 128
MAX_LABEL_VALUE = 256

RESERVED_PREFIX = "bhatti.sh/"
"""Labels of bhatti's own; callers can neither set nor remove them."""

IdleSeconds = Annotated[float, msgspec.Meta(ge=0, le=365 * 86_400)]
"""Seconds without activity; 0 means never."""


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """`keep_hot` never sleeps. None leaves an idle time to the daemon's settings."""

    keep_hot: bool = False
    labels: dict[str, str] = {}
    warm_after_s: IdleSeconds | None = None
    cold_after_s: IdleSeconds | None = None


def relabelled(labels: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str] = ()) -> dict[str, str]:
    """Return `labels` with some removed and others added; removing one that is not there is nothing.

    Raises `InvalidRequest` (code `bad-label`) for a reserved or impossible key, a value that is too long, or too many.
    """
    for key in (*add, *remove):
        _check_key(key)
    for key, value in add.items():
        if len(value) > MAX_LABEL_VALUE:
            raise _bad(
                f"the value of label {key!r} has {len(value)} characters", f"a value has at most {MAX_LABEL_VALUE}"
            )
    found = {key: value for key, value in labels.items() if key not in set(remove)} | dict(add)
    if len(found) > MAX_LABELS:
        raise _bad(f"{len(found)} labels are too many", f"a sandbox has at most {MAX_LABELS}; remove some")
    return found


def _check_key(key: str) -> None:
    shown = shortened(key)
    if not 1 <= len(key) <= MAX_LABEL_KEY or "=" in key or not key.isprintable():
        raise _bad(f"{shown!r} cannot be a label", f"a label is 1 to {MAX_LABEL_KEY} printable characters without '='")
    if key.startswith(RESERVED_PREFIX):
        raise _bad(f"the label {shown!r} is reserved", f"labels below {RESERVED_PREFIX} are bhatti's own")


def _bad(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, code="bad-label")
