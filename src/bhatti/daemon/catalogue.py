"""The sandboxes that there are, in memory: the daemon alone writes the store, so it need not ask it what it wrote.

Names are unique per owner. Who looks for a sandbox says who they are: what they may not see is not there, and they are
told so in the same words as if it never had been.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from bhatti.errors import Conflict, InvalidRequest, NotFound, shortened
from bhatti.model.references import by_beginning
from bhatti.model.sandbox import Status
from bhatti.model.user import ADMIN, Caller
from bhatti.store.sandboxes import Record

REMEMBERED = 256
"""How many destroyed sandboxes are remembered by name and id, to say that they are gone rather than unheard of."""

Admit = Callable[[Record, list[Record]], None]
"""Called with a new sandbox and those that its owner has; raises what speaks against one more."""


class Catalogue:
    """Look sandboxes up by what people type: id, name, or unique beginning of an id, in this order."""

    def __init__(self, records: Iterable[Record] = (), admit: Admit = lambda record, owned: None) -> None:
        self._admit = admit
        self._by_id: dict[str, Record] = {}
        self._id_of_name: dict[tuple[str, str], str] = {}
        self._gone: OrderedDict[str, Record] = OrderedDict()
        for record in records:
            self.put(record)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_id.values())

    def reserve(self, record: Record) -> None:
        """Take up a new sandbox; it counts from here on, so that any number of requests at once stay within the caps.

        Raises `Conflict` (code `name-taken`) if its owner has one of the name, or what `admit` raises.
        """
        self._check_name(record)
        self._admit(record, self.owned(record.owner))
        self.put(record)

    def rename(self, record: Record) -> None:
        """Take up the new state of a sandbox, whose name may be another; raises `Conflict` (code `name-taken`)."""
        self._check_name(record)
        self.put(record)

    def _check_name(self, record: Record) -> None:
        other = self._id_of_name.get((record.owner, record.name))
        if other is not None and other != record.id:
            raise Conflict(
                f"sandbox {record.name!r} already exists ({self._by_id[other].status}, id {other})",
                hint=f"choose another name, or remove it with `bhatti rm {record.name}`",
                code="name-taken",
            )

    def put(self, record: Record) -> None:
        """Take up a sandbox, or its new state."""
        if record.status is Status.DESTROYED:
            self.drop(record.id)
            self._gone[record.id] = record
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)
            return
        if (before := self._by_id.get(record.id)) is not None and before.name != record.name:
            del self._id_of_name[before.owner, before.name]
        self._by_id[record.id] = record
        self._id_of_name[record.owner, record.name] = record.id

    def drop(self, sandbox_id: str) -> None:
        """Forget a sandbox, as if it had never been."""
        if (record := self._by_id.pop(sandbox_id, None)) is not None:
            del self._id_of_name[record.owner, record.name]

    def get(self, sandbox_id: str) -> Record | None:
        """Return the sandbox with exactly this id."""
        return self._by_id.get(sandbox_id)

    def owned(self, owner: str) -> list[Record]:
        """Return the sandboxes of an owner."""
        return [record for record in self if record.owner == owner]

    def find(self, ref: str, caller: Caller = ADMIN) -> Record:
        """Return the sandbox that `caller` means by `ref`.

        Raises `NotFound` (code `sandbox-not-found` or `sandbox-destroyed`), or `InvalidRequest` (code `ambiguous-id`
        or `ambiguous-name`).
        """
        if (record := self._by_id.get(ref)) is not None and caller.may_see(record.owner):
            return record
        if (named := self._named(ref, caller)) is not None:
            return named
        if (meant := by_beginning(ref, (record.id for record in self if caller.may_see(record.owner)))) is not None:
            return self._by_id[meant]
        raise self._missing(ref, caller)

    def _named(self, name: str, caller: Caller) -> Record | None:
        """Return the caller's own sandbox of the name; for the administrator, else the one that any user has."""
        if (own := self._id_of_name.get((caller.owner, name))) is not None:
            return self._by_id[own]
        others = [record for record in self if record.name == name] if caller.admin else []
        if len(others) > 1:
            raise InvalidRequest(
                f"{len(others)} users have a sandbox {name!r}: {', '.join(sorted(record.id for record in others)[:5])}",
                hint="give its id",
                code="ambiguous-name",
            )
        return others[0] if others else None

    def _missing(self, ref: str, caller: Caller) -> NotFound:
        for record in reversed(self._gone.values()):
            if ref in (record.id, record.name) and caller.may_see(record.owner):
                when = f" at {record.destroyed_at:%H:%M:%S} UTC" if record.destroyed_at else ""
                return NotFound(
                    f"sandbox {ref!r} was destroyed{when}",
                    hint="`bhatti ls` shows what there is; `bhatti create` makes a new one",
                    code="sandbox-destroyed",
                )
        shown = shortened(ref)
        return NotFound(
            f"there is no sandbox {shown!r}",
            hint="`bhatti ls` shows the names and ids",
            code="sandbox-not-found",
        )
