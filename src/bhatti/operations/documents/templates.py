"""Templates: named sets of what sandboxes are created with."""

import datetime
from typing import Annotated

import msgspec

from bhatti.operations.documents.base import Request
from bhatti.operations.documents.sandboxes import Outfit


class TemplateMount(Request, frozen=True, kw_only=True):
    """A volume in the reference's words for templates. Without `volume_name` each sandbox has one of its own.

    That one is called `bhatti-SANDBOX-workspace`, and is made if it is not there.
    """

    target: Annotated[str, msgspec.Meta(max_length=4096)]
    volume_name: str = ""
    readonly: bool = False
    auto_create: bool = False


class TemplateSet(Outfit, frozen=True, kw_only=True):
    """The template to be: its name, and what sandboxes that are created with it have unless they say otherwise.

    With `engine`, only a daemon of that engine makes sandboxes of it. `userdata` is the reference's word for `init`,
    and `mounts` are volumes beside `volumes`. What is 0 or empty is as if it were left out, and so is an `id`: which
    one a template has is in the answer.
    """

    name: str
    id: str = ""
    engine: str | None = None
    userdata: str | None = None
    mounts: list[TemplateMount] = []


class Template(Outfit, frozen=True, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A template. It names secrets and does not hold them; everything else in it can be read by its owner."""

    id: str
    name: str
    created_at: datetime.datetime
    engine: str | None = None
    userdata: str | None = None
    mounts: list[TemplateMount] = []
