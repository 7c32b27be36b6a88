"""The part of the daemon's work that makes sandboxes: from an image or from another one, and once for one request."""

import abc
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from anyio import to_thread

from bhatti.daemon import admission, attachments, editing, forks, secret_uses
from bhatti.daemon.attachments import NO_VOLUMES, Wanted
from bhatti.daemon.builds import RecordedImages
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.exclusive import Claims
from bhatti.daemon.forks import Forks
from bhatti.daemon.making import Making
from bhatti.daemon.orders import Orders
from bhatti.daemon.owned_images import OwnedImages
from bhatti.daemon.owned_volumes import in_words_of, led
from bhatti.daemon.power import Power
from bhatti.daemon.secrets import Secrets
from bhatti.daemon.settings import Settings
from bhatti.daemon.templates import Templates
from bhatti.daemon.volumes import Volumes
from bhatti.engines.base import Engine, Machine
from bhatti.errors import Conflict
from bhatti.model.origin import Origin, Repeat
from bhatti.model.preferences import Preferences
from bhatti.model.sandbox import SandboxSpec
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.backend import Backend, StageCallback
from bhatti.store.journal import Journal
from bhatti.store.sandboxes import Record, new


class Creating(Backend):
    """The methods of `Backend` that make sandboxes, for one who has all that they are made of."""

    settings: Settings
    claims: Claims
    _catalogue: Catalogue
    _forks: Forks
    _images: RecordedImages
    _owned_images: OwnedImages
    _making: Making
    _orders: Orders
    _power: Power
    _secrets: Secrets
    _templates: Templates
    _volumes: Volumes

    @abc.abstractmethod
    def _serving(self) -> tuple[Journal, Engine]:
        """Return what the daemon works with; raises `Unavailable` while it starts or stops."""

    @abc.abstractmethod
    def _answer(self, record: Record, machine: Machine | None) -> types.Sandbox:
        """Return what the API says of a sandbox."""

    async def create(
        self,
        request: types.SandboxCreate,
        on_stage: StageCallback,
        caller: Caller = ADMIN,
        repeat: Repeat | None = None,
    ) -> types.Sandbox:
        """See `Backend`."""
        return await self._once(caller, repeat, lambda: self._create(request, on_stage, caller, repeat))

    async def _create(
        self, request: types.SandboxCreate, on_stage: StageCallback, caller: Caller, repeat: Repeat | None
    ) -> types.Sandbox:
        _, engine = self._serving()
        request, template_id = await self._templates.filled(request, caller, engine.name)
        if request.source is not None:
            source = self._catalogue.find(request.source, caller)
            return await self._fork(source.id, forks.fork_of(request, source.spec), on_stage, caller, repeat)
        host = await to_thread.run_sync(admission.look_at_host, Path(self.settings.state_dir))
        spec = admission.admit(request, self.settings, host, caller.owner)
        wanted = led(attachments.wanted(request), caller.owner)
        spec = msgspec.structs.replace(spec, image=await self._owned_images.meant(spec.image, caller))
        if engine.images_elsewhere:
            await self._owned_images.check_elsewhere(spec.image, caller)
        uses = secret_uses.checked(request.secrets or ())
        env = secret_uses.without(await self._images.environment(spec.image), uses) | spec.env
        spec = msgspec.structs.replace(spec, env=env, volumes=wanted.volumes)
        told = await self._secrets.delivered(spec, uses)
        work = lambda: engine.create(told, progress=on_stage)  # noqa: E731
        origin = Origin(template_id=template_id, secrets=uses, repeat=repeat)
        return await self._make(spec, editing.wanted(request), caller, work, origin, wanted)

    async def fork(
        self,
        ref: str,
        request: types.SandboxFork,
        on_stage: StageCallback,
        caller: Caller = ADMIN,
        repeat: Repeat | None = None,
    ) -> types.Sandbox:
        """See `Backend`."""
        return await self._once(caller, repeat, lambda: self._fork(ref, request, on_stage, caller, repeat))

    async def _fork(
        self, ref: str, request: types.SandboxFork, on_stage: StageCallback, caller: Caller, repeat: Repeat | None
    ) -> types.Sandbox:
        _, engine = self._serving()
        source = self._catalogue.find(ref)
        uses = source.origin.secrets if request.secrets is None else secret_uses.checked(request.secrets)
        spec = forks.fork_spec(source.spec, request, caller.owner, uses)
        told = await self._secrets.delivered(spec, uses)
        preferences = editing.wanted(request)
        work = lambda: self._forks.fork(source, engine, told, request.checkpoint, on_stage)  # noqa: E731
        async with contextlib.AsyncExitStack() as held:
            if request.checkpoint is None:
                await held.enter_async_context(self._power.held_hot(source, "fork", after=forks.OTHERS))
            return await self._make(spec, preferences, caller, work, Origin(secrets=uses, repeat=repeat))

    async def _make(
        self,
        spec: SandboxSpec,
        preferences: Preferences,
        caller: Caller,
        work: Callable[[], Awaitable[Machine]],
        origin: Origin,
        wanted: Wanted = NO_VOLUMES,
    ) -> types.Sandbox:
        """Make a sandbox of the caller by `work`, which is undone when its caller leaves."""
        _, engine = self._serving()
        space = await self._volumes.look() if wanted.sizes_mib else None
        record = new(spec, owner=caller.owner, engine=engine.name, preferences=preferences, origin=origin)
        with in_words_of(caller.owner):
            # Before the first await of the order: two requests for one name or volume meet here, not in the engine.
            self._catalogue.reserve(record)
            self._volumes.claim(record, wanted, space)
            machine = await self._orders.run(lambda: self._making.create(record, work), undo_when_left=True)
        return self._answer(self._catalogue.find(record.id), machine)

    async def _once(
        self, caller: Caller, repeat: Repeat | None, make: Callable[[], Awaitable[types.Sandbox]]
    ) -> types.Sandbox:
        """Make a sandbox, unless the same request has made one: then that is the answer, once it is over.

        Asked before anything that the request names is looked at: what made the first one may be gone meanwhile.
        """
        self._serving()
        if repeat is None:
            return await make()
        key = f"key:{caller.owner}/{repeat.key}"
        await self.claims.free(key)
        if (earlier := self._earlier(caller.owner, repeat)) is not None:
            return await self.sandbox(earlier.id)
        with self.claims.hold(key, "create"):
            return await make()

    def _earlier(self, owner: str, repeat: Repeat) -> Record | None:
        """Return the owner's sandbox that was made for the same request; None if there is none."""
        for other in self._catalogue.owned(owner):
            if other.origin.repeat is None or other.origin.repeat.key != repeat.key:
                continue
            if other.origin.repeat != repeat:
                raise Conflict(
                    f"the idempotency key {repeat.key!r} was used for another request, which made {other.name!r}",
                    hint="use a new key for each request, and the same one only to repeat it",
                    code="idempotency-key-reused",
                )
            return other
        return None
