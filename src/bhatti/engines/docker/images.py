"""From the name of an image to one that Docker has: our own imported, others found in Docker or pulled."""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.api_types import ImageInfo
from bhatti.engines.docker.archive import tar_pieces
from bhatti.errors import BhattiError, Conflict, CorruptData, EngineFailure, InvalidRequest, NotFound
from bhatti.images.store import BASE, BootFiles, ImageStore
from bhatti.net.instance import instance_of

log = logging.getLogger(__name__)

LABEL_DIGEST = "bhatti.image"
"""On an imported image: the sha256 of the file system that it was made from."""

LABEL_STORE = "bhatti.images"
"""On an imported image: the images directory that it came from, as `bhatti.net.instance` has it."""

REPOSITORY = "bhatti-image"
TAG_DIGITS = 16

BATCH_BYTES = 1 << 20
"""A tar archive comes in pieces of some hundred bytes; sent one by one, each would be a turn of two threads."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that containers can be made from, by Docker's id of it, and the agent to mount in them."""

    id: str
    env: dict[str, str]
    boot: BootFiles


class DockerImages:
    """Finds images, imports what Docker does not have, once. Safe to use from many tasks."""

    def __init__(self, api: DockerApi, store: ImageStore, *, pull: bool) -> None:
        self._api = api
        self._store = store
        self._pull = pull
        self._importing = anyio.Lock()
        self._known: dict[str, str] = {}

    async def find(self, name: str) -> FoundImage:
        """Return the image `name`: one of `bhatti image ls`, else one of Docker's, else one of a registry.

        Raises `NotFound` (code `image-not-found`), `CorruptData` (code `image-corrupt`), `OutOfSpace`.
        """
        try:
            boot = await anyio.to_thread.run_sync(self._store.boot_files, name)
        except NotFound:
            return await self._foreign(name)
        return FoundImage(await self.imported(boot), {}, boot)

    async def again(self, name: str) -> FoundImage:
        """Return what `find` does for `name`, after Docker has said that it does not have the image of last time."""
        self.forget()
        return await self.find(name)

    async def imported(self, boot: BootFiles) -> str:
        """Return Docker's id of one of our own images, imported if Docker does not have it.

        Raises `CorruptData` (code `image-corrupt`), `OutOfSpace`; nothing of a failed import is left.
        """
        digest = boot.digests["base"]
        if digest in self._known:
            return self._known[digest]
        async with self._importing:
            found = await self._api.images(f"{LABEL_DIGEST}={digest}")
            if not found:
                log.info("importing image %s into Docker", boot.image)
                await self._import(boot, digest)
                found = await self._api.images(f"{LABEL_DIGEST}={digest}")
        if not found:
            raise CorruptData(f"Docker has imported image {boot.image!r} and does not have it", code="image-corrupt")
        self._known[digest] = found[0].id
        return found[0].id

    def forget(self) -> None:
        """Look again at the next `find`: Docker does not have an image any more that it had."""
        self._known.clear()

    async def sweep(self) -> None:
        """Remove imported images of the store whose file system has been replaced or removed, unless they are used."""
        current = {image.digest.removeprefix("sha256:") for image in await anyio.to_thread.run_sync(self._store.list)}
        for image in await self._api.images(LABEL_DIGEST):
            labels = image.labels or {}
            if labels.get(LABEL_DIGEST) in current or labels.get(LABEL_STORE) != instance_of(self._store.directory):
                continue
            try:
                await self._api.remove_image(image.id)
            except (Conflict, NotFound):
                continue  # a container is made from it
            self.forget()
            log.info("removed image %s from Docker: it is not in the images directory any more", image.id)

    async def _import(self, boot: BootFiles, digest: str) -> None:
        archive = Archive(boot.base)
        labels = {LABEL_DIGEST: digest, LABEL_STORE: instance_of(self._store.directory)}
        try:
            await self._api.import_image(archive.pieces(), name=REPOSITORY, tag=digest[:TAG_DIGITS], labels=labels)
        except BhattiError as error:
            # What broke the request off is the better reason than that it was broken off.
            raise archive.failure or error from error

    async def _foreign(self, name: str) -> FoundImage:
        boot = await anyio.to_thread.run_sync(self._store.boot_files, BASE)
        try:
            image = await self._api.image(name)
        except (NotFound, InvalidRequest):
            image = await self._pulled(name)
        return FoundImage(image.id, environment(image.config.env if image.config else None), boot)

    async def _pulled(self, name: str) -> ImageInfo:
        if not self._pull:
            raise _not_found(name, "pulling is switched off")
        log.info("pulling image %s", name)
        try:
            await self._api.pull_image(name)
            return await self._api.image(name)
        except (NotFound, InvalidRequest) as error:
            raise _not_found(name, error.message) from error
        except EngineFailure as error:
            raise EngineFailure(
                f"image {name!r} is not here and could not be pulled: {error.message}",
                hint="check the name, the network and the registry (docker pull says the same), or import the image",
                code="pull-failed",
            ) from error


class Archive:
    """The tar archive of a file system image, to be sent. What breaks off the reading is in `failure`."""

    def __init__(self, path: Path) -> None:
        self.failure: BhattiError | None = None
        self._path = path

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield it in batches, read in a thread."""
        batches = _batches(tar_pieces(self._path))
        try:
            while batch := await anyio.to_thread.run_sync(next, batches, b""):
                yield batch
        except BhattiError as error:
            self.failure = error
            raise


def environment(entries: list[str] | None) -> dict[str, str]:
    """Return `NAME=value` texts as a mapping."""
    return dict(entry.split("=", 1) for entry in entries or [] if "=" in entry)


def _batches(pieces: Iterator[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _not_found(name: str, why: str) -> NotFound:
    return NotFound(
        f"there is no image {name!r}: neither built by bhatti, nor in Docker ({why})",
        hint="build the base image with `bhatti image build`, or name one that `docker image ls` lists",
        code="image-not-found",
    )
