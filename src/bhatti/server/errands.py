"""What the agent's wire has no words for, done by a program in the guest: trees of files packed, unpacked, moved.

The agent answers old clients as it does new ones, so its wire does not grow for what a program can do as well. The
program is `bhatti.trees`, sent along; what runs it is the Python that the agent brings with it, as root, like the
agent's own file operations, because an image need have neither Python nor `mv`. An agent without a drive of its own
(the reference's, or ours in test mode) is asked for any Python, as whoever it is.
"""

import contextlib
import errno
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from importlib import resources

import anyio
import msgspec

from bhatti.errors import BhattiError, Conflict, GuestFailure, InvalidRequest
from bhatti.guestlink.client import ExecStream, Exit, GuestLink, Stdout
from bhatti.guestlink.commands import Event
from bhatti.guestlink.failures import printable
from bhatti.images import agent_drive
from bhatti.taskgroups import together
from bhatti.trees.chores import FAILED

MODULES = ("tar", "packing", "unpacking", "chores")
"""Of `bhatti.trees`, in the order in which they import each other."""

LOADER = """
import sys, types
for name in sys.argv.pop(1).split():
    module = sys.modules["bhatti.trees." + name] = types.ModuleType(name)
    exec(sys.argv.pop(1), module.__dict__)
sys.exit(module.main(sys.argv[1:]))
"""

WAYS: tuple[tuple[list[str], str | None], ...] = (
    (agent_drive.start_command()[:-2], "root"),
    (["python3", "-I", "-S", "-B"], None),
)
"""Interpreters, and the account that they run as."""

ELSEWHERE = frozenset({"command-not-found", "permission-denied", "no-such-user", "unsupported"})
"""Codes with which an agent says that it cannot start a program in one of these ways."""

MAX_SAID_BYTES = 64 << 10
"""Of standard error, which is one line of ours; whoever is root in the guest can make it anything."""

GRACE_S = 5.0
"""For a program whose input has ended early to remove its draft. Expected: a millisecond."""

CODES = {
    errno.ENOENT: "no-such-file",
    errno.ENOTDIR: "not-a-directory",
    errno.EISDIR: "is-a-directory",
    errno.EACCES: "permission-denied",
    errno.EPERM: "permission-denied",
    errno.EROFS: "read-only",
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EEXIST: "file-exists",
    errno.ENOTEMPTY: "directory-not-empty",
    errno.EBUSY: "file-in-use",
    errno.ENAMETOOLONG: "name-too-long",
    errno.ELOOP: "too-many-links",
    errno.EINVAL: "into-itself",
}
"""Errors of the system, and what they are called here."""

CONFLICTS = {
    "file-exists": "choose another name, or remove what is there",
    "directory-not-empty": "remove what is in it first, or all of it (`recursive`)",
}


class Said(msgspec.Struct):
    """What a chore says that could not be done."""

    errno: int = 0
    what: str = ""
    refused: str = ""


@functools.cache
def program() -> tuple[str, ...]:
    """Return the program as arguments of an interpreter."""
    folder = resources.files("bhatti.trees")
    return ("-c", LOADER, " ".join(MODULES), *((folder / f"{name}.py").read_text() for name in MODULES))


class Errand:
    """A program that runs in the guest: its output, and how it ended."""

    def __init__(self, stream: ExecStream, first: Event) -> None:
        self._stream = stream
        self._first = first
        self._said = bytearray()

    async def output(self) -> AsyncGenerator[bytes, None]:
        """Yield what it writes, once; raises the error that it ends with."""
        event = self._first
        while not isinstance(event, Exit):
            if isinstance(event, Stdout):
                yield event.data
            elif len(self._said) < MAX_SAID_BYTES:
                self._said += event.data
            event = await anext(self._stream)
        self._ended(event)

    async def feed(self, pieces: AsyncIterator[bytes]) -> None:
        """Give it `pieces` as its input, and wait for its end; raises the error that it ends with.

        When `pieces` breaks off, the program is told that there is no more, and has a moment to tidy up.
        """
        try:
            async with together() as tasks:
                tasks.start_soon(self._send, pieces)
                async for _ in self.output():
                    pass
                tasks.cancel_scope.cancel()  # it needs no more input than it had
        except BaseException:
            await self._let_tidy_up()
            raise

    async def _let_tidy_up(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE_S), contextlib.suppress(BhattiError):
            if self._stream.exit is None:
                await self._stream.close_stdin()
                async for _ in self._stream:
                    pass

    async def _send(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            await self._stream.send_stdin(piece)
        await self._stream.close_stdin()

    def _ended(self, end: Exit) -> None:
        if end.code == 0:
            return
        if end.code == FAILED:
            with contextlib.suppress(msgspec.MsgspecError):
                raise failure(msgspec.json.decode(bytes(self._said), type=Said))
        last = bytes(self._said).decode(errors="replace").strip().rpartition("\n")[2]
        raise GuestFailure(
            f"the program for this ended in the sandbox: {end.reason}, exit code {end.code}: {printable(last)}",
            hint="has the sandbox memory enough, and does it let Python run?",
            code="errand-failed",
        )


@contextlib.asynccontextmanager
async def errand(link: GuestLink, action: str, *arguments: str) -> AsyncIterator[Errand]:
    """Start a chore of `bhatti.trees.chores`, which is known to run inside the block; leaving early ends it."""
    async with contextlib.AsyncExitStack() as held:
        for number, (interpreter, user) in enumerate(WAYS, start=1):
            argv: Sequence[str] = (*interpreter, *program(), action, *arguments)
            try:
                stream = await held.enter_async_context(link.stream(argv, user=user))
                first = await anext(stream)
            except GuestFailure as err:
                if err.code not in ELSEWHERE or number == len(WAYS):
                    raise
            else:
                yield Errand(stream, first)
                return


async def run(link: GuestLink, action: str, *arguments: str) -> None:
    """Do a chore to its end. Raises `GuestFailure`, `Conflict`, `InvalidRequest`. Cancelling ends it half done."""
    async with errand(link, action, *arguments) as running:
        async for _ in running.output():
            pass


def failure(said: Said) -> BhattiError:
    """Return the error for what a chore says."""
    if said.refused:
        return InvalidRequest(
            f"the archive is not taken: {printable(said.refused)}",
            hint="send a tar archive of files, directories and links, all of it",
            code="bad-archive",
        )
    code = CODES.get(said.errno)
    if code in CONFLICTS:
        return Conflict(printable(said.what), hint=CONFLICTS[code], code=code)
    return GuestFailure(printable(said.what), code=code)
