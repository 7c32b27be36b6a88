"""Names under which ports are published: one label of a host name each (RFC 1123 section 2.1), in lower case."""

import re
import secrets
from collections.abc import Iterator

from bhatti.errors import InvalidRequest

ALIAS = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

RESERVED = frozenset({"www", "mail", "admin", "status", "ns1", "ns2", "api", "app"})
"""Names that people take for those of the installation itself."""

MAX_PROPOSED = 40
"""Of a sandbox's name in an alias, so that there is room for a port behind it."""


def checked_alias(alias: str) -> str:
    """Return `alias` if a port may be published under it, else raise `InvalidRequest` (code `bad-alias`)."""
    if ALIAS.fullmatch(alias) and not alias.endswith("-") and alias not in RESERVED:
        return alias
    raise InvalidRequest(
        f"{alias[:80]!r} cannot be published",
        hint="use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends; "
        f"{', '.join(sorted(RESERVED))} are taken",
        code="bad-alias",
    )


def proposals(name: str, port: int) -> Iterator[str]:
    """Yield aliases for a port of the sandbox `name`, the nicest first, without end."""
    base = re.sub(r"[^a-z0-9]+", "-", name.lower())[:MAX_PROPOSED].strip("-") or "sandbox"
    if base not in RESERVED:
        yield base
    yield f"{base}-{port}"
    while True:
        yield f"{base}-{port}-{secrets.token_hex(3)}"
