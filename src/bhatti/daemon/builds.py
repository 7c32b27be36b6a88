"""Images, as the daemon offers them: the image store's blocking work on worker threads, its progress on the loop."""

import asyncio
import datetime
from pathlib import Path

from anyio import to_thread

from bhatti.daemon.settings import Settings
from bhatti.images.store import Image, ImageStore
from bhatti.operations import types
from bhatti.server.backend import BuildCallback


class Images:
    """The image store, for the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._store = ImageStore(Path(settings.images_dir))

    async def list(self) -> list[types.Image]:
        """Return the images. Safe to cancel."""
        return [answer(image) for image in await to_thread.run_sync(self._store.list)]

    async def build(self, request: types.ImageBuild, on_progress: BuildCallback) -> types.Image:
        """Build what is missing. When cancelled, the build goes on by itself, and another call waits for it."""
        loop = asyncio.get_running_loop()

        def progress(stage: str, done: int, total: int) -> None:
            event = types.BuildEvent(type="progress", stage=stage, done=done, total=total)
            if not loop.is_closed():  # the daemon may stop while the thread builds
                loop.call_soon_threadsafe(on_progress, event)

        def build() -> Image:
            return self._store.build(request.name, refresh=request.refresh, progress=progress)

        return answer(await to_thread.run_sync(build, abandon_on_cancel=True))

    async def remove(self, name: str) -> None:
        """Remove an image; raises `NotFound`."""
        await to_thread.run_sync(self._store.remove, name)


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
