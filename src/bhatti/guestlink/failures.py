"""What can go wrong on the link, as errors of the one tree: guest's words get a code, lost and silent guests a hint."""

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable

CODES: tuple[tuple[str, str], ...] = (
    # The order matters: the first phrase that is found decides.
    ("unexpected frame type", "unsupported"),
    ("auth required", "auth-required"),
    ("executable file not found", "command-not-found"),
    ("session not found", "session-not-found"),
    ("session is attached", "session-attached"),
    ("session limit exceeded", "session-limit"),
    ("connection limit exceeded", "connection-limit"),
    ("connection refused", "connection-refused"),
    ("not a directory", "not-a-directory"),
    ("not a regular file", "not-a-regular-file"),
    ("is a directory", "is-a-directory"),
    ("file exists", "is-a-directory"),  # what the reference says when a file is written over a directory
    ("permission denied", "permission-denied"),
    ("operation not permitted", "permission-denied"),
    ("no space left", "disk-full"),
    ("file too large", "file-too-large"),
    ("size must be >= 0", "bad-size"),
    ("empty argv", "empty-argv"),
    ("unknown user", "no-such-user"),
    ("no such file", "no-such-file"),
    ("bad ", "bad-request"),
)
"""Words that an agent's error contains, ours or the reference's, and the code that they mean."""

MAX_WORDS = 1000
"""Characters that are told of what a guest says: its words may be of any length, and go into answers and logs."""

LOST = "connection-lost"
PROTOCOL = "protocol-violation"


def guest_failure(text: str) -> GuestFailure:
    """Return the error for an agent's ERROR frame, with the code that its words stand for."""
    code = next((code for words, code in CODES if words in text), None)
    if text.startswith("start: ") and code == "no-such-file" and "chdir" not in text:
        # The program itself is what was not found, not a file it was asked for.
        code = "command-not-found"
    return GuestFailure(f"agent error: {printable(text)}", code=code)


def printable(text: str) -> str:
    """Return text of a guest as it can be shown on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:MAX_WORDS])


def lost(peer: str, why: str) -> Unavailable:
    """Return the error for a connection that ended before the answer did."""
    return Unavailable(
        f"lost the connection to the guest agent at {peer}: {why}",
        hint="the sandbox may have been stopped or resumed meanwhile; look at its status, then try again",
        code=LOST,
    )


def unreachable(peer: str, why: str) -> Unavailable:
    """Return the error for an agent that cannot be connected to."""
    return Unavailable(
        f"cannot reach the guest agent at {peer}: {why}",
        hint="the sandbox is not running, or has not finished booting",
        code="guest-unreachable",
    )


def silent(peer: str, what: str, seconds: float) -> GuestTimeout:
    """Return the error for an agent that said nothing for too long."""
    return GuestTimeout(
        f"the guest agent at {peer} was silent for {seconds:g} s: {what}",
        hint="the guest may be paused, overloaded or dead; its console log may say why",
    )


def endless(peer: str, timeout_s: float) -> GuestTimeout:
    """Return the error for an agent that goes on with the output of a command whose time is up."""
    return GuestTimeout(
        f"the guest agent at {peer} sends output without an end of a command that was given {timeout_s:g} s",
        hint="the command may still run; restarting the sandbox ends it",
    )


def violation(peer: str, problem: str) -> Unavailable:
    """Return the error for bytes that no agent sends."""
    return Unavailable(
        f"the peer at {peer} does not speak the agent's protocol: {problem}",
        hint="something else may be listening there, or the agent is of an incompatible version",
        code=PROTOCOL,
    )
