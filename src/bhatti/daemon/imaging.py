"""The part of the daemon's work that is about images."""

import abc

from bhatti.daemon import builds
from bhatti.daemon.catalogue import Catalogue
from bhatti.engines.base import Engine
from bhatti.operations import types
from bhatti.server.backend import Backend, BuildCallback
from bhatti.store.journal import Journal


class Imaging(Backend):
    """The methods of `Backend` about images, for one who has the images and the catalogue."""

    _images: builds.RecordedImages
    _catalogue: Catalogue

    @abc.abstractmethod
    def _serving(self) -> tuple[Journal, Engine]:
        """Return what the daemon works with; raises `Unavailable` while it starts or stops."""

    async def images(self) -> list[types.Image]:
        """See `Backend`."""
        return await self._images.list()

    async def build_image(self, request: types.ImageBuild, on_progress: BuildCallback) -> types.Image:
        """See `Backend`."""
        return await self._images.order("image-built", builds.building(request), on_progress)

    async def import_image(self, request: types.ImageImport, on_progress: BuildCallback) -> types.Image:
        """See `Backend`."""
        return await self._images.order("image-imported", builds.importing(request), on_progress)

    async def pull_image(self, request: types.ImagePull, on_progress: BuildCallback) -> types.Image:
        """See `Backend`."""
        return await self._images.order("image-pulled", builds.pulling(request), on_progress)

    async def remove_image(self, name: str) -> None:
        """See `Backend`."""
        self._serving()
        await self._images.remove_unused(name, self._catalogue)

    async def prune_images(self) -> types.ImagesPruned:
        """See `Backend`."""
        _, engine = self._serving()
        return await self._images.prune(engine)
