"""Everybody's secrets: sealed on the way into the store, opened on the way into a sandbox, and nowhere else.

Theory of operation. The store has what age has made of the values, the key file has the keys, and nothing is kept in
memory. A new key is put in the file before the old ones, then everything is sealed again in one transaction, then the
old ones go: the file has at any moment a key to whatever the store has. A file with several keys is a rotation that
somebody has interrupted (or an old key that was added to read a backup): the next start finishes it.
"""

import builtins
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from bhatti.daemon import secret_uses
from bhatti.daemon.orders import Orders
from bhatti.errors import BhattiError, CorruptData, InvalidRequest, LimitExceeded, NotFound, OutOfSpace, shortened
from bhatti.model.origin import SecretUse
from bhatti.model.sandbox import SandboxSpec, checked_name
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.secrets import keyfile
from bhatti.secrets.keys import Keys
from bhatti.server.secrets import SecretBackend
from bhatti.store.sandboxes import now
from bhatti.store.secret_journal import SecretJournal
from bhatti.store.secrets import SecretRecord

log = logging.getLogger(__name__)

KEY_FILE = "secrets.key"

MAX_SECRETS = 256
"""Of one user. They are read whole, which takes milliseconds."""


class Secrets(SecretBackend):
    """The secrets of one daemon. `journal` returns the store's part, or refuses while the daemon is not ready."""

    def __init__(self, state_dir: Path, journal: Callable[[], SecretJournal], orders: Orders) -> None:
        self._path = state_dir / KEY_FILE
        self._journal = journal
        # The key file is written by orders alone, which a caller who leaves does not stop in the middle.
        self._orders = orders
        # One at a time: what was sealed with an old key must be in the store before that key's last reader goes.
        self._changing = anyio.Lock()

    async def start(self, journal: SecretJournal) -> None:
        """Finish what a killed daemon has left of a rotation. What is wrong with the keys is told, and told again to
        whoever needs them: a daemon without secrets can do all the rest."""
        try:
            keys = await to_thread.run_sync(keyfile.read, self._path)
            if keys is None:
                await self._check_unused(journal)
            elif len(keys) > 1:
                log.info("finishing a rotation of the key of the secrets")
                await self._reseal(journal, keys)
        except BhattiError as err:
            log.error("secrets cannot be used: %s (%s)", err.message, err.hint)

    async def put(self, request: types.SecretSet, caller: Caller) -> types.Secret:
        """See `SecretBackend`."""
        name = checked_name(request.name, "a secret")
        if "\0" in request.value:
            raise InvalidRequest(
                f"the value of secret {name!r} holds a NUL", hint="encode it, as base64 for one", code="bad-secret"
            )
        journal = self._journal()
        record = await self._orders.run(lambda: self._put(journal, name, request.value, caller), undo_when_left=False)
        return _answer(record)

    async def _put(self, journal: SecretJournal, name: str, value: str, caller: Caller) -> SecretRecord:
        async with self._changing:
            before = {record.name: record for record in await journal.of(caller.owner)}
            if name not in before and len(before) >= MAX_SECRETS:
                raise LimitExceeded(f"there are {len(before)} secrets", hint="remove some", code="too-many-secrets")
            keys = await self._keys(journal)
            moment = now()
            record = SecretRecord(
                owner=caller.owner,
                name=name,
                sealed=await to_thread.run_sync(keys.seal, value),
                created_at=before[name].created_at if name in before else moment,
                updated_at=moment,
            )
            await journal.put(record)
        return record

    async def list(self, caller: Caller) -> builtins.list[types.Secret]:
        """See `SecretBackend`."""
        return [_answer(record) for record in await self._journal().of(caller.owner)]

    async def get(self, name: str, caller: Caller) -> types.Secret:
        """See `SecretBackend`."""
        return _answer(await self._find(name, caller.owner))

    async def remove(self, name: str, caller: Caller) -> None:
        """See `SecretBackend`."""
        await self._journal().remove(await self._find(name, caller.owner))

    async def rotate_key(self) -> types.KeyRotation:
        """See `SecretBackend`."""
        journal = self._journal()
        resealed = await self._orders.run(lambda: self._rotate(journal), undo_when_left=False)
        log.info("the key of the secrets is a new one", extra={"secrets": resealed})
        return types.KeyRotation(secrets=resealed)

    async def _rotate(self, journal: SecretJournal) -> int:
        async with self._changing:
            keys = (await self._keys(journal)).followed()
            await self._write(keys)
            return await self._reseal(journal, keys)

    async def delivered(self, spec: SandboxSpec, uses: Sequence[SecretUse]) -> SandboxSpec:
        """Return `spec` with the values that its owner's secrets have now: for the engine alone.

        Raises `InvalidRequest` (codes `secret-not-found`, `bad-secret`), and what keeps the keys from being used.
        """
        if not uses:
            return spec
        wanted = {use.name for use in uses}
        journal = self._journal()
        records = {record.name: record for record in await journal.of(spec.owner) if record.name in wanted}
        if missing := sorted(wanted - records.keys()):
            raise InvalidRequest(
                f"secret {missing[0]!r} not found",
                hint="`bhatti secret ls` shows those of the sandbox's owner; a fork asks for what its source asked for "
                "unless it is given other secrets",
                code="secret-not-found",
            )
        keys = await self._keys(journal)

        def opened() -> dict[str, str]:
            return {name: keys.open(record.sealed, f"secret {name!r}") for name, record in records.items()}

        return secret_uses.delivered(spec, uses, await to_thread.run_sync(opened))

    async def _find(self, name: str, owner: str) -> SecretRecord:
        for record in await self._journal().of(owner):
            if record.name == name:
                return record
        shown = shortened(name)
        raise NotFound(f"there is no secret {shown!r}", hint="`bhatti secret ls` shows them", code="secret-not-found")

    async def _keys(self, journal: SecretJournal) -> Keys:
        """Return the keys, made now if there are no secrets yet; raises what keeps them from being used."""
        keys = await to_thread.run_sync(keyfile.read, self._path)
        if keys is None:
            await self._check_unused(journal)
            keys = Keys.generate()
            await self._write(keys)
        return keys

    async def _check_unused(self, journal: SecretJournal) -> None:
        if (count := await journal.count()) > 0:
            raise CorruptData(
                f"there are {count} secrets and no key to them: {self._path} is missing or empty",
                hint="put it back from where you keep a copy of it, or remove all secrets (`bhatti secret rm`)",
                code="secret-key-missing",
            )

    async def _reseal(self, journal: SecretJournal, keys: Keys) -> int:
        """Seal everything with the newest of `keys`, which are those of the file, and let the others go."""

        def again(name: str, sealed: bytes) -> bytes:
            return keys.seal(keys.open(sealed, f"secret {name!r}"))

        count = await journal.reseal(again)
        await self._write(keys.newest())
        return count

    async def _write(self, keys: Keys) -> None:
        try:
            await to_thread.run_sync(keyfile.write, self._path, keys)
        except OSError as err:
            raise OutOfSpace(
                f"the keys of the secrets cannot be written to {self._path}: {err.strerror}",
                hint=f"free space in {self._path.parent}, and look at its rights",
            ) from err


def _answer(record: SecretRecord) -> types.Secret:
    return types.Secret(name=record.name, created_at=record.created_at, updated_at=record.updated_at)
