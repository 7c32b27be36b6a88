"""Images, as the daemon offers them: the image store's blocking work on worker threads, its progress on the loop."""

import asyncio
import datetime
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
from anyio import from_thread, to_thread

from bhatti.daemon.orders import Orders, stopping
from bhatti.daemon.settings import Settings
from bhatti.daemon.watching import Watching
from bhatti.engines.base import Engine
from bhatti.errors import Conflict
from bhatti.images.artefacts import Progress
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.reference import parse_reference
from bhatti.images.oci.source import ImageSource
from bhatti.images.oci.sources import open_source
from bhatti.images.store import Image, ImageStore
from bhatti.operations import types
from bhatti.server.backend import BuildCallback
from bhatti.store.sandboxes import Record

AT_ONCE = 8
"""Pieces of work that have a thread at once; more wait for their turn. The daemon has 40 threads for everything, and
work on images keeps one for minutes, much of it waiting: for a slow registry, or for the one who builds."""

Work = Callable[[ImageStore, Progress], Image]
"""Makes an image in a store; blocks, for minutes perhaps."""


class Images:
    """The image store, for the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._store = ImageStore(Path(settings.images_dir))
        self._places = anyio.CapacityLimiter(AT_ONCE)

    async def list(self) -> list[types.Image]:
        """Return the images. Safe to cancel."""
        return [answer(image) for image in await to_thread.run_sync(self._store.list)]

    async def environment(self, name: str) -> dict[str, str]:
        """Return the variables that programs of an image start with; none if there is no such image. Safe to cancel."""
        return await to_thread.run_sync(self._store.environment, name)

    async def has(self, name: str) -> bool:
        """Say whether an image is called so. Safe to cancel."""
        return await to_thread.run_sync(self._store.has, name)

    async def make(
        self, work: Work, on_progress: BuildCallback, check: Callable[[], None] = lambda: None
    ) -> types.Image:
        """Do the work. When cancelled, it goes on by itself, and another call waits for it.

        `check` is called in the work's thread before each step; what it raises ends the work.
        """
        loop = asyncio.get_running_loop()

        def progress(stage: str, done: int, total: int) -> None:
            event = types.BuildEvent(type="progress", stage=stage, done=done, total=total)
            if loop.is_closed():  # the daemon has stopped while the thread works: its process waits for us alone
                raise stopping()
            check()
            loop.call_soon_threadsafe(on_progress, event)

        made = await to_thread.run_sync(work, self._store, progress, abandon_on_cancel=True, limiter=self._places)
        return answer(made)

    async def remove(self, name: str) -> None:
        """Remove an image; raises `NotFound`."""
        await to_thread.run_sync(self._store.remove, name)


class RecordedImages(Images):
    """Images whose making and removing are events when they are done."""

    def __init__(self, settings: Settings, orders: Orders, watch: Watching) -> None:
        super().__init__(settings)
        self._state = Path(settings.state_dir)
        self._orders = orders
        self._watch = watch

    async def make_recorded(
        self, kind: str, work: Work, on_progress: BuildCallback, check: Callable[[], None]
    ) -> types.Image:
        """Do the work, then note an event of that `kind`; the rest is as with `make`."""
        image = await self.make(work, on_progress, check)
        await self._watch.happened(kind, image.name)
        return image

    async def remove_unused(self, name: str, records: Iterable[Record]) -> None:
        """Remove an image; raises `NotFound`, or `Conflict` (code `image-in-use`) if one of the sandboxes needs it."""
        users = [record.name for record in records if record.spec.image == name]
        if users:
            raise Conflict(
                f"image {name!r} is used by {', '.join(users[:5])}",
                hint=f"remove {'it' if len(users) == 1 else 'them'} first",
                code="image-in-use",
            )
        await self.remove(name)
        await self._watch.happened("image-removed", name)

    async def prune(self, engine: Engine) -> types.ImagesPruned:
        """Remove what nobody needs any more, then note an event; raises `Busy`, `Conflict` (code `images-shared`).

        Only one daemon's sandboxes are asked for what they need, so the images must be that daemon's own.
        """
        if self._store.directory.resolve().parent != self._state.resolve():
            raise Conflict(
                f"{self._store.directory} is not this daemon's own: sandboxes of others may need what is in it",
                hint=f"prune with the daemon that has it as the directory `images` of its own, not {self._state}",
                code="images-shared",
            )

        async def order() -> types.ImagesPruned:
            await engine.release_images()
            freed = await to_thread.run_sync(self._store.collect, lambda: from_thread.run(engine.needed_files))
            await self._watch.happened("images-pruned", f"{freed >> 20} MiB freed")
            return types.ImagesPruned(freed_bytes=freed)

        return await self._orders.run(order, undo_when_left=False)


def building(request: types.ImageBuild) -> Work:
    """Return the work of building what is missing of an image."""
    return lambda store, progress: store.build(request.name, refresh=request.refresh, progress=progress)


def importing(request: types.ImageImport) -> Work:
    """Return the work of taking over an image of this machine; raises `InvalidRequest` (code `bad-source`)."""
    return _taking_over(open_source(request.source), request.name)


def pulling(request: types.ImagePull, name: str | None = None, *, own_credentials: bool = True) -> Work:
    """Return the work of taking over an image of a registry; raises `InvalidRequest` (code `bad-reference`).

    `name` is instead of the request's. With `own_credentials` those of the daemon's Docker configuration are used where
    the request has none.
    """
    from bhatti.images.oci.pull import RegistrySource  # brings a client for HTTP: 50 ms

    credentials = Credentials(request.username, request.password) if request.username else None
    source = RegistrySource(
        parse_reference(request.reference),
        credentials=credentials,
        anonymous=not own_credentials,
        insecure=request.insecure,
    )
    return _taking_over(source, name or request.name)


def _taking_over(source: ImageSource, name: str | None) -> Work:
    def work(store: ImageStore, progress: Progress) -> Image:
        store.build_parts(progress=progress)  # without a kernel and an agent the image could not be used
        return store.import_image(source, name, progress=progress)

    return work


def answer(image: Image) -> types.Image:
    """Return an image in the words of the API."""
    return types.Image(
        name=image.name,
        digest=image.digest,
        size_bytes=image.size_bytes,
        stored_bytes=image.stored_bytes,
        created_at=datetime.datetime.fromtimestamp(image.created_at, datetime.UTC),
        kernel=image.kernel,
        source=image.source,
    )
