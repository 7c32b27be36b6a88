"""Going on where one of many things fails: whoever runs the daemon is told of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bhatti.errors import BhattiError


@contextmanager
def told(log: logging.Logger, what: str) -> Iterator[None]:
    """Let `log` tell of what goes wrong in the block, as `what`, and go on behind it."""
    try:
        yield
    except (BhattiError, OSError) as error:
        log.error("%s: %s", what, error)
