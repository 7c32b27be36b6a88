"""bhatti: a Linux machine of its own for every AI coding agent.

`from bhatti import Sandbox`, or `AsyncSandbox`, is the SDK, described in docs/sdk.md. What is named here is imported on
first use: the command line is this package too, and must not pay for what it does not need.
"""

TYPE_CHECKING = False
"""As type checkers take it; importing it from `typing` would cost every `bhatti exec` some milliseconds."""

if TYPE_CHECKING:
    from bhatti.errors import BhattiError as BhattiError
    from bhatti.sdk.aio.sandbox import AsyncSandbox as AsyncSandbox
    from bhatti.sdk.results import CommandFailed as CommandFailed
    from bhatti.sdk.results import Result as Result
    from bhatti.sdk.sync.sandbox import Sandbox as Sandbox

HOMES = {
    "AsyncSandbox": "bhatti.sdk.aio.sandbox",
    "BhattiError": "bhatti.errors",
    "CommandFailed": "bhatti.sdk.results",
    "Result": "bhatti.sdk.results",
    "Sandbox": "bhatti.sdk.sync.sandbox",
}
"""Where each name of the SDK lives."""


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module 'bhatti' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *HOMES]
