"""What a request can fail with, as the text of its ERROR frame.

The words are those that clients of the reference protocol look for ("no such file", "not a directory", ...), in the
reference's order: what was done, to what, and the system's reason in lower case.
"""

from __future__ import annotations

import os


class RequestError(Exception):
    """A request cannot be served; the message goes to the client as it is."""


def system_error(what: str, error: OSError) -> RequestError:
    """Return the failure of a system call: `open /x: no such file or directory`."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
    return RequestError(f"{what}: {reason}")
