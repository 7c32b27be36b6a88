"""What can be changed of a sandbox at any time: what a request makes of it, and writing that down."""

import msgspec

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.errors import InvalidRequest
from bhatti.model.preferences import Preferences, relabelled
from bhatti.model.sandbox import checked_name
from bhatti.operations.types import SandboxCreate, SandboxEdit, SandboxFork
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record


def wanted(request: SandboxCreate | SandboxFork) -> Preferences:
    """Return the preferences of a new sandbox; raises `InvalidRequest` (code `bad-label`)."""
    return Preferences(
        keep_hot=bool(request.keep_hot),
        labels=relabelled({}, request.labels),
        warm_after_s=request.warm_after_s,
        cold_after_s=request.cold_after_s,
    )


def edited(record: Record, request: SandboxEdit) -> Record:
    """Return the row as it is to be; raises `InvalidRequest` (codes `bad-name`, `bad-label`, `nothing-to-change`)."""
    if request == SandboxEdit():
        raise InvalidRequest("the request changes nothing", hint="give what is to change", code="nothing-to-change")
    before = record.preferences
    preferences = Preferences(
        keep_hot=before.keep_hot if request.keep_hot is None else request.keep_hot,
        labels=relabelled(before.labels, request.labels_add, request.labels_remove),
        warm_after_s=_kept(request.warm_after_s, before.warm_after_s),
        cold_after_s=_kept(request.cold_after_s, before.cold_after_s),
    )
    name = record.name if request.name is None else checked_name(request.name)
    return msgspec.structs.replace(record, name=name, preferences=preferences)


class Edits:
    """Changes rows, one at a time per sandbox; whoever finds an order under way waits."""

    def __init__(self, claims: Claims, catalogue: Catalogue) -> None:
        self.claims = claims
        self._catalogue = catalogue

    @exclusive(per="sandbox", busy="wait")
    async def edit(self, record: Record, journal: Journal, request: SandboxEdit) -> None:
        """Change a sandbox; raises like `edited`, and `Conflict` (code `name-taken`)."""
        before = self._catalogue.find(record.id)
        changed = edited(before, request)
        self._catalogue.rename(changed)  # before the store is: nobody gets the new name meanwhile
        try:
            await journal.note(changed, "edited")
        except BaseException:
            self._catalogue.put(before)
            raise


def has_label(record: Record, label: str | None) -> bool:
    """Return whether a sandbox has a label, given as `key` or `key=value`; None is had by all."""
    if label is None:
        return True
    key, equals, value = label.partition("=")
    found = record.preferences.labels.get(key)
    return found is not None and (not equals or found == value)


def _kept(asked: float | msgspec.UnsetType | None, before: float | None) -> float | None:
    return before if isinstance(asked, msgspec.UnsetType) else asked
