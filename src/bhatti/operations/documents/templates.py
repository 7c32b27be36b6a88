"""Templates: named sets of what sandboxes are created with."""

import datetime

from bhatti.operations.documents.sandboxes import Outfit


class TemplateSet(Outfit, frozen=True, kw_only=True):
    """The template to be: its name, and what sandboxes that are created with it have unless they say otherwise."""

    name: str


class Template(Outfit, frozen=True, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A template. It names secrets and does not hold them; everything else in it can be read by its owner."""

    id: str
    name: str
    created_at: datetime.datetime
