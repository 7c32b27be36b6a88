"""Users, and who the caller is."""

import datetime

import msgspec
from msgspec import UNSET, UnsetType

from bhatti.model.user import Cap, Caps
from bhatti.operations.documents.base import Answer, Request


class User(Answer, frozen=True, kw_only=True):
    """A user, what they may have (null: without a bound), and what they have."""

    id: str
    name: str
    created_at: datetime.datetime
    max_sandboxes: Cap
    max_cpus: Cap
    max_memory_mb: Cap
    max_volume_storage_mb: Cap
    max_images: Cap
    max_snapshots: Cap
    max_published: Cap
    sandboxes: int = 0
    cpus: int = 0
    memory_mb: int = 0


class UserKey(Answer, frozen=True, kw_only=True):
    """A user and their key, which is told this once and kept nowhere."""

    user: User
    api_key: str


class Me(Answer, frozen=True, kw_only=True):
    """Who the caller is. The local administrator has no `user`: nothing bounds what they may have."""

    name: str
    admin: bool
    user: User | None = None


class UserCreate(Request, frozen=True, kw_only=True):
    """A new user. Caps that are not given are the usual ones; null is without a bound."""

    name: str
    max_sandboxes: Cap | UnsetType = UNSET
    max_cpus: Cap | UnsetType = UNSET
    max_memory_mb: Cap | UnsetType = UNSET
    max_volume_storage_mb: Cap | UnsetType = UNSET
    max_images: Cap | UnsetType = UNSET
    max_snapshots: Cap | UnsetType = UNSET
    max_published: Cap | UnsetType = UNSET

    def caps(self, before: Caps = Caps()) -> Caps:  # noqa: B008  # frozen
        """Return `before` with what is given."""
        given = {name: getattr(self, name) for name in Caps.__struct_fields__}
        return msgspec.structs.replace(before, **{name: cap for name, cap in given.items() if cap is not UNSET})


class UserUpdate(UserCreate, frozen=True, kw_only=True):
    """What is to change about a user; the rest stays. What exceeds a new cap is kept, and nothing is added."""

    name: str = ""


class UserRemoveQuery(Request, frozen=True, kw_only=True):
    """With `force`, the user's sandboxes and volumes go first; otherwise a user who has any is kept."""

    force: bool = False
