"""What a sandbox was made from, beyond what an engine needs to know of it."""

import msgspec


class SecretUse(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that a sandbox asked for, by its owner's name for it, and where its guest finds the value.

    That is the variable `env`, or the file `file` with `mode` (octal text). The value itself is never in here.
    """

    name: str
    env: str = ""
    file: str = ""
    mode: str = "0600"


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """How a creation is known again when it is asked for twice: the caller's key, and a digest of what was asked."""

    key: str
    digest: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The template and the secrets that were asked for, and how the request is known again."""

    template_id: str | None = None
    secrets: tuple[SecretUse, ...] = ()
    repeat: Repeat | None = None


NOWHERE = Origin()
"""Of a sandbox that asked for none of it."""
