"""The users, in memory: who holds which key, what they have, and what they may have.

Theory of operation. What is in memory decides, and is changed first: from that moment an old key is nobody's. The store
follows, even when whoever asked has left meanwhile; if it cannot be written, the change is taken back. Changes go one
after the other, questions are answered without waiting. Keys are kept nowhere, only their SHA-256: 32 random bytes need
no slower hash, as nobody can guess them.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from bhatti.daemon import caps
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.owned_images import OwnedImages
from bhatti.daemon.owned_volumes import spoken
from bhatti.daemon.rates import RateLimits, kind_of
from bhatti.daemon.settings import Rates
from bhatti.daemon.volumes import Volumes
from bhatti.errors import Conflict, NotFound, Unauthorized, Unavailable, shortened
from bhatti.model.references import by_beginning
from bhatti.model.user import ADMIN, Caller, checked_user_name
from bhatti.operations import types
from bhatti.operations.operation import Operation
from bhatti.server.accounts import Accounts
from bhatti.store import users
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record, now
from bhatti.store.users import UserRecord

log = logging.getLogger(__name__)

End = Callable[[Record], Awaitable[None]]
"""Ends a sandbox."""


class AccountBook(Accounts):
    """The users of one daemon; `start` makes it ready."""

    def __init__(self, rates: Rates) -> None:
        self._rates = RateLimits(rates)
        self._parts: tuple[Journal, Catalogue, Volumes, OwnedImages, End] | None = None
        self._by_id: dict[str, UserRecord] = {}
        self._by_hash: dict[str, UserRecord] = {}
        self._changing = anyio.Lock()

    async def start(
        self, journal: Journal, catalogue: Catalogue, volumes: Volumes, images: OwnedImages, end: End
    ) -> None:
        """Read who there is. `catalogue`, `volumes`, `images` say what they have, `end` ends a sandbox of theirs."""
        for user in await journal.users():
            self._put(user)
        self._parts = journal, catalogue, volumes, images, end

    # --- calls

    def identify(self, key: str) -> Caller:
        """See `Accounts`."""
        self._started()
        digest = _hash(key)
        user = self._by_hash.get(digest)
        # What a caller can learn from the time of the look-up is about the digest, which nobody can steer; the
        # comparison that decides takes the same time for all.
        if user is None or not hmac.compare_digest(user.key_hash, digest):
            raise Unauthorized(
                "invalid api key",
                hint="it may have been replaced: ask the administrator for another (`bhatti user rotate NAME`)",
                code="invalid-key",
            )
        return Caller(owner=user.id, name=user.name)

    def spend(self, caller: Caller, operation: Operation[object, object] | None) -> None:
        """See `Accounts`."""
        self._rates.spend(caller.owner, kind_of(operation))

    def admit(self, record: Record, owned: list[Record]) -> None:
        """Raise what speaks against one more sandbox beside those that its owner has: `LimitExceeded`, or
        `Unauthorized` if they are a user no more."""
        if (user := self._capped(record.owner)) is not None:
            caps.check_sandbox(user, record, owned)

    def check_cap(self, owner: str, cap: str, taken: int, asked: int = 1) -> None:
        """Raise `LimitExceeded` if `asked` more than `taken` is too much for `owner`; `cap` is a field of `Caps`.

        Raises `Unauthorized` if they are a user no more.
        """
        if (user := self._capped(owner)) is not None:
            caps.check(user, cap, taken, asked)

    def _capped(self, owner: str) -> UserRecord | None:
        """Return the user who an owner is; None for the administrator, who may have anything."""
        if owner == ADMIN.owner:
            return None
        if (user := self._by_id.get(owner)) is None or user.key_hash not in self._by_hash:
            raise Unauthorized(
                "the user has been removed", hint="ask the administrator for another key", code="invalid-key"
            )
        return user

    def check_storage(self, owner: str, taken_mib: int, asked_mib: int) -> None:
        """Raise `LimitExceeded` if so much more volume storage is too much for `owner`."""
        self.check_cap(owner, "max_volume_storage_mb", taken_mib, asked_mib)

    def check_images(self, owner: str, taken: int, asked: int) -> None:
        """Raise `LimitExceeded` if so many more images are too many for `owner`, `Unauthorized` if they are gone."""
        self.check_cap(owner, "max_images", taken, asked)

    def check_snapshots(self, owner: str, taken: int) -> None:
        """Raise `LimitExceeded` if one more checkpoint is too much for `owner`."""
        self.check_cap(owner, "max_snapshots", taken)

    def check_published(self, owner: str, taken: int) -> None:
        """Raise `LimitExceeded` if one more published port is too much for `owner`."""
        self.check_cap(owner, "max_published", taken)

    # --- looking

    def me(self, caller: Caller) -> types.Me:
        """See `Accounts`."""
        user = None if caller.admin else self._answer(self._by_id[caller.owner])
        return types.Me(name=caller.name, admin=caller.admin, user=user)

    def list(self) -> list[types.User]:
        """See `Accounts`."""
        self._started()
        return [self._answer(user) for user in sorted(self._by_id.values(), key=lambda user: user.name)]

    def get(self, ref: str) -> types.User:
        """See `Accounts`."""
        return self._answer(self._find(ref))

    # --- changes

    async def create(self, request: types.UserCreate) -> types.UserKey:
        """See `Accounts`."""
        journal, *_ = self._started()
        key = _new_key()
        user = UserRecord(
            id=f"usr_{secrets.token_hex(4)}",
            name=checked_user_name(request.name),
            key_hash=_hash(key),
            created_at=now(),
            caps=request.caps(),
        )
        async with self._changing:
            self._check_free(user.name)
            self._put(user)
            await _carried_out(journal.add_user(user), lambda: self._drop(user))
        log.info("user created", extra={"user": user.name, "id": user.id})
        return types.UserKey(user=self._answer(user), api_key=key)

    async def update(self, ref: str, request: types.UserUpdate) -> types.User:
        """See `Accounts`."""
        async with self._changing:
            user = self._find(ref)
            name = checked_user_name(request.name) if request.name else user.name
            if name != user.name:
                self._check_free(name)
            changed = msgspec.structs.replace(user, name=name, caps=request.caps(user.caps))
            return self._answer(await self._change(user, changed))

    async def rotate(self, ref: str) -> types.UserKey:
        """See `Accounts`."""
        key = _new_key()
        async with self._changing:
            user = self._find(ref)
            changed = await self._change(user, msgspec.structs.replace(user, key_hash=_hash(key)))
        log.info("key replaced", extra={"user": user.name, "id": user.id})
        return types.UserKey(user=self._answer(changed), api_key=key)

    async def remove(self, ref: str, *, force: bool) -> types.User:
        """See `Accounts`."""
        journal, catalogue, volumes, images, end = self._started()
        async with self._changing:
            user = self._find(ref)
            owned = catalogue.owned(user.id)
            if not force:
                _check_nothing_left(user, "sandboxes", [record.name for record in owned])
                _check_nothing_left(user, "volumes", [spoken(name) for name in volumes.owned(user.id)])
                _check_nothing_left(user, "images", [spoken(name) for name in await images.owned(user.id)])
                _check_nothing_left(user, "secrets", [one.name for one in await journal.secrets.of(user.id)])
            gone = self._answer(user)
            del self._by_hash[user.key_hash]  # nothing new comes while the old goes
            try:
                for record in owned:
                    if catalogue.get(record.id) is not None:
                        await end(record)
                for name in volumes.owned(user.id):  # after the sandboxes, which may have them
                    await volumes.remove(name)
                for name in await images.owned(user.id):
                    await images.remove(name, catalogue)
            except BaseException:
                self._put(user)
                raise
            self._drop(user)
            await _carried_out(journal.remove_user(user.id), lambda: self._put(user))
        self._rates.forget(user.id)
        log.info("user removed", extra={"user": user.name, "id": user.id})
        return gone

    async def _change(self, before: UserRecord, after: UserRecord) -> UserRecord:
        journal, *_ = self._started()

        def undo() -> None:
            self._drop(after)
            self._put(before)

        self._drop(before)
        self._put(after)
        await _carried_out(journal.change_user(after), undo)
        return after

    def _put(self, user: UserRecord) -> None:
        self._by_id[user.id] = self._by_hash[user.key_hash] = user

    def _drop(self, user: UserRecord) -> None:
        del self._by_id[user.id]
        self._by_hash.pop(user.key_hash, None)

    def _check_free(self, name: str) -> None:
        if any(user.name == name for user in self._by_id.values()):
            raise users.name_taken(name)

    def _find(self, ref: str) -> UserRecord:
        self._started()
        for user in self._by_id.values():
            if ref in (user.id, user.name):
                return user
        if (meant := by_beginning(ref, self._by_id)) is not None:
            return self._by_id[meant]
        shown = shortened(ref)
        raise NotFound(f"there is no user {shown!r}", hint="`bhatti user ls` shows them", code="user-not-found")

    def _answer(self, user: UserRecord) -> types.User:
        _, catalogue, *_ = self._started()
        owned = catalogue.owned(user.id)
        return types.User(
            id=user.id,
            name=user.name,
            created_at=user.created_at,
            **msgspec.structs.asdict(user.caps),
            sandboxes=len(owned),
            cpus=sum(record.spec.cpus for record in owned),
            memory_mb=sum(record.spec.memory_mib for record in owned),
        )

    def _started(self) -> tuple[Journal, Catalogue, Volumes, OwnedImages, End]:
        if self._parts is None:
            raise Unavailable(
                "the daemon is starting: it does not know yet who there is",
                hint="try again in a moment",
                code="starting",
            )
        return self._parts


def _check_nothing_left(user: UserRecord, kind: str, names: Sequence[str]) -> None:
    """Raise `Conflict` (code `user-has-KIND`) if the user has any of that kind."""
    if names:
        raise Conflict(
            f"user {user.name!r} has {kind}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}",
            hint=f"remove {'it' if len(names) == 1 else 'them'} first, or all that the user has with the user: "
            f"bhatti user rm --force {user.name}",
            code=f"user-has-{kind}",
        )


async def _carried_out(change: Awaitable[None], undo: Callable[[], None]) -> None:
    """Wait for a change of the store; if it fails, `undo`. It happens even if the caller is cancelled meanwhile."""
    try:
        await change
    except Exception:
        undo()
        raise


def _new_key() -> str:
    return f"bht_{secrets.token_urlsafe(32)}"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
