"""Entering a guest on behalf of a call, and telling the caller what really went wrong if it did."""

import contextlib
from collections.abc import AsyncIterator

from bhatti.errors import GuestFailure, NotFound
from bhatti.guestlink.client import GuestLink
from bhatti.server.call import Call

MISSING_FILE_CODES = frozenset({"no-such-file", "session-not-found"})
"""What the agent says of things that are not there: for HTTP that is 404, not 422."""


@contextlib.asynccontextmanager
async def entered(call: Call) -> AsyncIterator[GuestLink]:
    """Give the link into the call's sandbox; an error of the block becomes the one that the caller can act on."""
    link = await call.backend.guest(call.ref)
    try:
        yield link
    except GuestFailure as err:
        if err.code in MISSING_FILE_CODES:
            raise NotFound(err.message, hint=err.hint, code=err.code) from err
        raise
    except Exception as err:
        told = await call.backend.explain(call.ref, err)
        if told is err:
            raise
        raise told from err
