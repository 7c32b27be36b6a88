"""The part of the daemon's work that is about images, and about the tasks that make them."""

import abc

from bhatti.daemon import builds
from bhatti.daemon.builds import RecordedImages
from bhatti.daemon.catalogue import Catalogue
from bhatti.daemon.owned_images import OwnedImages
from bhatti.daemon.owned_volumes import in_words_of
from bhatti.daemon.tasks import Job, Tasks, Work, answer
from bhatti.engines.base import Engine
from bhatti.errors import Forbidden, InvalidRequest
from bhatti.images.oci.reference import parse_reference
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.server.backend import Backend, BuildCallback
from bhatti.store.journal import Journal


class Imaging(Backend):
    """The methods of `Backend` about images and tasks, for one who has the images, the tasks and the catalogue."""

    _images: RecordedImages
    _owned_images: OwnedImages
    _jobs: Tasks
    _catalogue: Catalogue

    @abc.abstractmethod
    def _serving(self) -> tuple[Journal, Engine]:
        """Return what the daemon works with; raises `Unavailable` while it starts or stops."""

    @property
    def tasks(self) -> Tasks:
        """See `Backend`."""
        self._serving()
        return self._jobs

    async def start_task(self, request: types.TaskStart, caller: Caller = ADMIN) -> types.Task:
        """See `Backend`."""
        wanted = [one for one in (request.build, request.import_, request.pull) if one is not None]
        if len(wanted) != 1:
            raise InvalidRequest(
                f"{len(wanted)} things to begin", hint="give one of build, import and pull", code="invalid-field"
            )
        if request.pull is None and not caller.admin:
            raise Forbidden(
                "images are built and imported by the administrator", hint="begin a `pull` of an image of a registry"
            )
        with in_words_of(caller.owner):
            work = self._work(wanted[0], caller)
        return answer(await self.tasks.begin(*work, owner=caller.owner))

    async def images(self, caller: Caller = ADMIN) -> list[types.Image]:
        """See `Backend`."""
        return await self._owned_images.seen(caller)

    async def image(self, name: str, caller: Caller = ADMIN) -> types.Image:
        """See `Backend`."""
        return await self._owned_images.one(name, caller)

    async def build_image(self, request: types.ImageBuild, on_progress: BuildCallback) -> types.Image:
        """See `Backend`."""
        return await self.tasks.run(*self._work(request), on_progress=on_progress)

    async def import_image(self, request: types.ImageImport, on_progress: BuildCallback) -> types.Image:
        """See `Backend`."""
        return await self.tasks.run(*self._work(request), on_progress=on_progress)

    async def pull_image(
        self, request: types.ImagePull, on_progress: BuildCallback, caller: Caller = ADMIN
    ) -> types.Image:
        """See `Backend`."""
        with in_words_of(caller.owner):
            work = self._work(request, caller)
            return await self.tasks.run(*work, owner=caller.owner, on_progress=on_progress)

    def _work(
        self, request: types.ImageBuild | types.ImageImport | types.ImagePull, caller: Caller = ADMIN
    ) -> tuple[str, str, Work]:
        """Return kind, subject and work of the task that a request is for; raises `InvalidRequest`, `Forbidden`."""
        name = request.name or ""
        if isinstance(request, types.ImageBuild):
            kind, event, subject, making = "image-build", "image-built", request.name, builds.building(request)
        elif isinstance(request, types.ImageImport):
            kind, event, subject, making = "image-import", "image-imported", request.source, builds.importing(request)
        else:
            kind, event, subject = "image-pull", "image-pulled", request.reference
            name = self._owned_images.pulled(parse_reference(request.reference), request.name, caller)
            making = builds.pulling(request, name, own_credentials=caller.admin)

        async def work(job: Job) -> types.Image:
            # The words of its failure are kept with the task, and its owner reads them there.
            with in_words_of(caller.owner):
                async with self._owned_images.place(name):
                    made = await self._images.make_recorded(event, making, job.step, job.check)
            return self._owned_images.told(made, caller)

        return kind, subject, work

    async def remove_image(self, name: str, caller: Caller = ADMIN) -> None:
        """See `Backend`."""
        self._serving()
        found = await self._owned_images.removable(name, caller)
        with in_words_of(caller.owner):
            await self._images.remove_unused(found, self._catalogue)

    async def prune_images(self) -> types.ImagesPruned:
        """See `Backend`."""
        _, engine = self._serving()
        return await self._images.prune(engine)
