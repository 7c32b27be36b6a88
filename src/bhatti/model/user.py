"""Who calls, and what a user may have."""

import re
from typing import Annotated

import msgspec

from bhatti.errors import InvalidRequest, shortened
from bhatti.model.sandbox import NAME_PATTERN

MAX_CAP = 10**12

Cap = Annotated[int, msgspec.Meta(ge=0, le=MAX_CAP)] | None
"""The most that a user may have of something; None is without a bound."""

KEY_PATTERN = re.compile(r"bht_[A-Za-z0-9_-]{43}")
"""32 random bytes as base64 for URLs, behind a prefix by which scanners for lost secrets can tell them."""

LOCAL = "admin"
"""What the local administrator is called, who has no row and no key; no user can be called that."""


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may have, all their sandboxes together, running or not; sizes in MiB."""

    max_sandboxes: Cap = 5
    max_cpus: Cap = 8
    max_memory_mb: Cap = 8192
    max_volume_storage_mb: Cap = 20_480
    max_images: Cap = 10
    max_snapshots: Cap = 5
    max_published: Cap = 10


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a request is from. `owner` is what is written on the things they make: the id of a user, '' of the admin."""

    owner: str
    name: str
    admin: bool = False

    def may_see(self, owner: str) -> bool:
        """Say whether something of `owner` exists, as far as this caller is concerned."""
        return self.admin or owner == self.owner


ADMIN = Caller(owner="", name=LOCAL, admin=True)
"""Who comes over the daemon's own socket."""

NOBODY = Caller(owner="nobody", name="nobody")
"""Who has not been asked, because the operation is for everybody; owns nothing, as ids of users begin with `usr_`."""


def checked_user_name(name: str) -> str:
    """Return `name` if it may name a user, else raise `InvalidRequest` (code `bad-name`)."""
    if NAME_PATTERN.fullmatch(name) and name != LOCAL and not name.startswith("usr_"):
        return name
    shown = shortened(name)
    raise InvalidRequest(
        f"{shown!r} cannot name a user",
        hint="use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit; "
        f"{LOCAL!r} and what begins with 'usr_' are taken",
        code="bad-name",
    )
