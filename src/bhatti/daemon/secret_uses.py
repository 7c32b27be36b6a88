"""Which secrets a sandbox asks for, checked, and what their values make of its specification. Pure functions."""

import re
from collections.abc import Iterable, Mapping

import msgspec

from bhatti.errors import InvalidRequest
from bhatti.model.origin import SecretUse
from bhatti.model.sandbox import Env, GuestFile, SandboxSpec, checked_name
from bhatti.operations.types import SecretWanted

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""POSIX's rule (Base Definitions 8.1): what a shell can name."""

MAX_TOTAL_BYTES = 256 << 10
"""Of all values that one sandbox has: they travel to the guest in one message."""


def checked(wanted: Iterable[str | SecretWanted]) -> tuple[SecretUse, ...]:
    """Return what is asked for; raises `InvalidRequest` (codes `bad-name`, `bad-secret`)."""
    uses = tuple(_use(SecretWanted(name=one) if isinstance(one, str) else one) for one in wanted)
    places = [use.env or use.file for use in uses]
    for place in places:
        if places.count(place) > 1:
            raise _bad(f"two secrets are to be {place!r}", "give each a variable or a file of its own")
    return uses


def _use(wanted: SecretWanted) -> SecretUse:
    name = checked_name(wanted.name, "a secret")
    if wanted.file is not None:
        if wanted.env is not None:
            raise _bad(f"secret {name!r} is to be a variable and a file", "ask for it twice, once for each")
        if not wanted.file.startswith("/") or wanted.file.endswith("/") or "\0" in wanted.file:
            raise _bad(f"{wanted.file[:80]!r} is not the absolute path of a file", "for example /home/lohar/.netrc")
        return SecretUse(name=name, file=wanted.file, mode=wanted.mode)
    variable = name if wanted.env is None else wanted.env
    if not VARIABLE.fullmatch(variable):
        raise _bad(
            f"{variable[:80]!r} cannot be the name of a variable",
            "say under which the sandbox is to have it, or in which file: --secret NAME:VARIABLE, --secret NAME:/path",
        )
    return SecretUse(name=name, env=variable)


def without(env: Env, uses: Iterable[SecretUse]) -> Env:
    """Return inherited variables but for those that secrets take the place of."""
    taken = {use.env for use in uses}
    return {name: value for name, value in env.items() if name not in taken}


def delivered(spec: SandboxSpec, uses: Iterable[SecretUse], values: Mapping[str, str]) -> SandboxSpec:
    """Return `spec` with the values of its secrets: for the engine, and for nothing that is kept or shown.

    Variables and files that were asked for by their values outrank secrets. Raises `InvalidRequest` (code
    `bad-secret`) if it is too much.
    """
    uses = tuple(uses)
    if (total := sum(len(values[use.name].encode()) for use in uses)) > MAX_TOTAL_BYTES:
        raise _bad(f"the secrets of a sandbox have {total} bytes", f"it can have {MAX_TOTAL_BYTES}; use a volume")
    there = {file.path for file in spec.files}
    files = tuple(
        GuestFile(path=use.file, content=values[use.name].encode(), mode=use.mode)
        for use in uses
        if use.file and use.file not in there
    )
    env = {use.env: values[use.name] for use in uses if use.env} | spec.env
    return msgspec.structs.replace(spec, env=env, files=(*spec.files, *files))


def _bad(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, code="bad-secret")
