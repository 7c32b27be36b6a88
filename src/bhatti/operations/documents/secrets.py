"""Secrets, and how sandboxes have them. No answer holds a value."""

import datetime
from typing import Annotated

import msgspec

from bhatti.operations.documents.base import Answer, Request

SecretName = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]

MAX_VALUE_CHARACTERS = 65_536
"""Of one value. Larger things are files, or volumes."""


class SecretSet(Request, frozen=True, kw_only=True):
    """A secret and its value, which is text; encode what is not. One of that name gets the new value."""

    name: SecretName
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_VALUE_CHARACTERS)]


class Secret(Answer, frozen=True, kw_only=True):
    """What can be said of a secret. Its value cannot be asked for."""

    name: str
    created_at: datetime.datetime
    updated_at: datetime.datetime


class KeyRotation(Answer, frozen=True, kw_only=True):
    """How many secrets, of all users, are encrypted with a new key now."""

    secrets: int


class SecretWanted(Request, frozen=True, kw_only=True):
    """A secret that a sandbox is to have: as the variable `env`, or as the file `file` of the sandbox's user.

    Without either it is the variable of the secret's own name. `mode` is the file's, octal text.
    """

    name: SecretName
    env: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    file: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None = None
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3,4}$")] = "0600"


SecretsWanted = Annotated[list[SecretName | SecretWanted], msgspec.Meta(max_length=32)]
"""A plain name stands for the variable of that name."""
