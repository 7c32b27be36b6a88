"""Entering a guest on behalf of a call, and telling the caller what really went wrong if it did."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from bhatti.errors import GuestFailure, InvalidRequest, NotFound
from bhatti.guestlink.client import GuestLink
from bhatti.server.backend import Visitor
from bhatti.server.call import Call
from lohar.wire.messages import MessageError

MISSING = frozenset({"no-such-file", "session-not-found"})
"""Codes of things that are not there: for HTTP that is 404, not 422."""

HINTS = {
    "command-not-found": "is it installed in the image? commands are looked up in PATH; shell syntax needs `sh -c '…'`",
    "permission-denied": "commands run as the user of the sandbox; ask for another with `user`",
    "no-such-file": "the path is one of the sandbox; list its directory to see what there is",
    "not-a-directory": "the path, or a part of it, is a file",
    "is-a-directory": "the path is a directory; list it instead",
    "no-such-user": "users are those of the sandbox's own /etc/passwd",
    "session-not-found": "list the sessions to see which there are; one that has ended is kept for a minute",
    "connection-refused": "is the server in the sandbox running, and does it listen on that port?",
    "read-only": "that part of the sandbox's files cannot be changed",
    "disk-full": "remove something in the sandbox, or create one with a larger disk",
}
"""What the caller can do about an answer of the agent, which speaks of what it saw and not of what to do."""


class inside(AbstractAsyncContextManager[Visitor]):
    """Let the call into its sandbox; an error of the block becomes the one that the caller can act on.

    A class, which takes half of a generator's time: every call into a guest comes by.
    """

    __slots__ = ("_call", "_visiting")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._visiting = visiting(call)

    async def __aenter__(self) -> Visitor:
        return await self._visiting.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            told = await explained(self._call, error) if isinstance(error, Exception) else error
        finally:
            await self._visiting.__aexit__(kind, error, trace)
        if told is not None and told is not error:
            raise told from error


class entered(AbstractAsyncContextManager[GuestLink]):
    """As `inside`, for those who need nothing but the link."""

    __slots__ = ("_inside",)

    def __init__(self, call: Call) -> None:
        self._inside = inside(call)

    async def __aenter__(self) -> GuestLink:
        return (await self._inside.__aenter__()).link

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inside.__aexit__(kind, error, trace)


def visiting(call: Call, *, wake: bool = True) -> AbstractAsyncContextManager[Visitor]:
    """Return the block in which the call uses its sandbox, which is awake and stays so; errors pass as they are."""
    return call.backend.visit(call.ref, f"{call.operation.name} is under way", wake=wake)


async def explained(call: Call, error: Exception) -> Exception:
    """Return what to tell the caller whose call into the guest failed with `error`."""
    if isinstance(error, MessageError):  # found when the request was put into the words of the guest's wire
        return InvalidRequest(
            f"the request is not right: {error}",
            hint="docs/api.md and /docs of the daemon say what it has to be",
            code="invalid-field",
        )
    if not isinstance(error, GuestFailure):
        return await call.backend.explain(call.ref, error)
    error.hint = error.hint or HINTS.get(error.code)
    if error.code in MISSING:
        return NotFound(error.message, hint=error.hint, code=error.code)
    return error
