"""What is said when the packages that the daemon needs, and a client does not, are not installed."""

import os
import sys

import msgspec

from bhatti.errors import MissingDependency

SERVER = frozenset({"aiohttp", "anyio", "prometheus_client", "pyrage", "pyroute2"})
"""What the extra `server` of pyproject.toml brings, as it is imported; uvloop can be done without."""


def missing(error: BaseException) -> MissingDependency | None:
    """Return what to do about a package that cannot be imported; None if it is not one of the extra."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] not in SERVER:
        return None
    return MissingDependency(
        f"the daemon's side of bhatti is not installed: there is no package {error.name!r}",
        hint="pip install 'bhatti[server]'; to use the daemon of another machine, bhatti setup --url http://HOST:PORT",
        code="extra-missing",
    )


def refuse(error: ModuleNotFoundError, arguments: list[str]) -> int:
    """Say that the daemon cannot be imported, to whoever has started it with `arguments`; return the exit code.

    Raises `error` if the extra has nothing to do with it.
    """
    found = missing(error)
    if found is None:
        raise error
    document = msgspec.json.encode(found.body()) + b"\n"
    if arguments[:1] != ["serve"]:
        os.write(1, document)
        return found.exit_code
    if "--ready-fd" in arguments:
        os.write(int(arguments[arguments.index("--ready-fd") + 1]), document)
    sys.stderr.write(f"bhatti: {found.message}\nhint: {found.hint}\n")
    return found.exit_code
