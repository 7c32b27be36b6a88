"""What is published: who may have which name, and the way from a name into its sandbox.

Theory of operation. What is in memory decides, and is changed first, so that two requests for one name meet here. The
store follows, and if it cannot be written the change is taken back. A site goes with its sandbox, in the same step as
the sandbox's row; until then it may sleep, fail, be stopped and started as it likes.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.orders import Orders
from bhatti.daemon.settings import Gateway
from bhatti.errors import Conflict, InvalidRequest, NotFound, Unavailable
from bhatti.gateway.limits import Limits
from bhatti.gateway.published import Published, Site
from bhatti.gateway.routing import url_of
from bhatti.guestlink.ports import AGENT
from bhatti.model.alias import checked_alias, proposals
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.backend import Visitor
from bhatti.server.publications import PublicationBackend
from bhatti.store.journal import Journal
from bhatti.store.publications import PublicationRecord
from bhatti.store.sandboxes import Record, now

Visit = Callable[[str, str], AbstractAsyncContextManager[Visitor]]
"""Enter a sandbox, for a reason; see `Backend.visit`."""

Count = Callable[[str, int, float], None]
"""See `Watch.answered`."""

CheckCap = Callable[[str, int], None]
"""Raises `LimitExceeded` if an owner who has so many published ports may not have one more."""


@dataclass(eq=False, slots=True)
class _Entry:
    record: PublicationRecord
    site: Site


class Publishing(PublicationBackend, Published):
    """The published ports of one daemon; `start` makes it ready, `listens` says where the gateway is."""

    def __init__(
        self, settings: Gateway, catalogue: Catalogue, orders: Orders, visit: Visit, check_cap: CheckCap, count: Count
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._orders = orders
        self._visit = visit
        self._check_cap = check_cap
        self._count = count
        self._by_alias: dict[str, _Entry] = {}
        self._journal: Journal | None = None
        self._port: int | None = None

    async def start(self, journal: Journal) -> None:
        """Read what was published."""
        for record in await journal.publications.everything():
            self._put(record)
        self._journal = journal

    def listens(self, port: int) -> None:
        """Take note of the port on which the gateway listens."""
        self._port = port

    def forget(self, sandbox_id: str) -> None:
        """Drop what is published of a sandbox that is gone: its row has taken the others with it."""
        for entry in self._of(sandbox_id):
            self._drop(entry)

    @property
    def limits(self) -> Limits:
        """What strangers may have."""
        return Limits(
            domain=self._settings.domain.lower().strip("."),
            trust_forwarded=self._settings.trust_forwarded,
            max_waiting=self._settings.max_waiting,
            max_open=self._settings.max_open,
            max_body_bytes=self._settings.max_body_mb << 20,
            wake_timeout_s=self._settings.wake_timeout_s,
            idle_timeout_s=self._settings.idle_timeout_s,
        )

    # --- for the server

    async def publish(self, ref: str, request: types.PublishRequest) -> tuple[types.Publication, bool]:
        """See `PublicationBackend`."""
        sandbox = self._catalogue.find(ref)
        alias = None if request.alias is None else checked_alias(request.alias)
        if self._port is None:
            raise Conflict(
                "the daemon has no gateway",
                hint="set gateway.listen, for example to 127.0.0.1:8090, and start it again; "
                f"`bhatti forward {sandbox.name} {request.port}` has the port on this machine meanwhile",
                code="no-gateway",
            )
        if request.port in AGENT:
            raise InvalidRequest(
                f"port {request.port} is the agent's own",
                hint="publish another port: nothing of yours listens on this one",
                code="invalid-port",
            )
        if (before := self._find(sandbox.id, request.port)) is not None:
            if alias not in (None, before.record.alias):
                raise Conflict(
                    f"port {request.port} of sandbox {sandbox.name!r} is published as {before.record.alias!r}",
                    hint=f"first `bhatti unpublish {sandbox.name} {request.port}`",
                    code="already-published",
                )
            return self._answer(before.record), False
        self._check_cap(sandbox.owner, len(self.list(caller=Caller(owner=sandbox.owner, name=""))))
        entry = self._put(self._new(sandbox, request.port, alias))
        await self._orders.run(lambda: self._written(entry), undo_when_left=False)
        return self._answer(entry.record), True

    def list(self, ref: str | None = None, caller: Caller = ADMIN) -> list[types.Publication]:
        """See `PublicationBackend`."""
        if ref is not None:
            return [self._answer(entry.record) for entry in self._of(self._catalogue.find(ref).id)]
        return [
            self._answer(entry.record)
            for entry in self._by_alias.values()
            if caller.may_see(self._catalogue.find(entry.record.sandbox_id).owner)
        ]

    async def unpublish(self, ref: str, port: int) -> None:
        """See `PublicationBackend`."""
        journal = self._started()
        sandbox = self._catalogue.find(ref)
        entry = self._find(sandbox.id, port)
        if entry is None:
            raise NotFound(
                f"port {port} of sandbox {sandbox.name!r} is not published",
                hint="`bhatti publish` without a port lists what is",
                code="not-published",
            )
        self._drop(entry)
        await self._orders.run(lambda: journal.publications.remove(entry.record), undo_when_left=False)

    def _new(self, sandbox: Record, port: int, alias: str | None) -> PublicationRecord:
        if alias in self._by_alias:
            raise Conflict(
                f"{alias!r} is published already", hint="choose another alias, or give none", code="alias-taken"
            )
        free = (proposed for proposed in proposals(sandbox.name, port) if proposed not in self._by_alias)
        return PublicationRecord(
            id=f"pub_{secrets.token_hex(4)}",
            sandbox_id=sandbox.id,
            port=port,
            alias=alias or next(free),
            created_at=now(),
        )

    async def _written(self, entry: _Entry) -> None:
        journal = self._started()
        try:
            await journal.publications.add(entry.record)
        except BaseException:
            self._drop(entry)
            raise
        if self._by_alias.get(entry.record.alias) is not entry:  # its sandbox went meanwhile
            await journal.publications.remove(entry.record)

    def _answer(self, record: PublicationRecord) -> types.Publication:
        url = None
        if self._port is not None:
            url = url_of(record.alias, domain=self.limits.domain, public_url=self._settings.public_url, port=self._port)
        return types.Publication(
            id=record.id,
            sandbox_id=record.sandbox_id,
            sandbox=self._catalogue.find(record.sandbox_id).name,
            port=record.port,
            alias=record.alias,
            url=url,
            created_at=record.created_at,
        )

    # --- for the gateway

    def find(self, alias: str) -> Site | None:
        """See `Published`."""
        self._started()
        entry = self._by_alias.get(alias)
        return None if entry is None else entry.site

    @contextlib.asynccontextmanager
    async def enter(self, site: Site) -> AsyncIterator[Visitor]:
        """See `Published`."""
        entry = self._by_alias.get(site.alias)
        if entry is None or entry.site is not site:
            raise NotFound(
                "it is published no more", hint="`bhatti publish NAME PORT` publishes it again", code="not-published"
            )
        async with self._visit(entry.record.sandbox_id, f"a request for {site.alias} is under way") as visitor:
            yield visitor

    def answered(self, status: int, seconds: float) -> None:
        """See `Published`."""
        self._count("gateway", status, seconds)

    # --- what is there

    def _put(self, record: PublicationRecord) -> _Entry:
        entry = self._by_alias[record.alias] = _Entry(record, Site(record.alias, record.port))
        return entry

    def _drop(self, entry: _Entry) -> None:
        if self._by_alias.get(entry.record.alias) is entry:
            del self._by_alias[entry.record.alias]
        entry.site.cut()

    def _of(self, sandbox_id: str) -> tuple[_Entry, ...]:
        return tuple(entry for entry in self._by_alias.values() if entry.record.sandbox_id == sandbox_id)

    def _find(self, sandbox_id: str, port: int) -> _Entry | None:
        return next((entry for entry in self._of(sandbox_id) if entry.record.port == port), None)

    def _started(self) -> Journal:
        if self._journal is None:
            raise Unavailable("the daemon is starting", hint="try again in a moment", code="starting")
        return self._journal
