"""Volumes: Docker's own, under names of this engine, so that they outlive containers and daemons."""

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import LABEL_INSTANCE
from bhatti.errors import Conflict, NotFound
from bhatti.model.sandbox import VolumeAttachment

LABEL_VOLUME = "bhatti.volume"


class Volumes:
    """The volumes of one engine."""

    def __init__(self, api: DockerApi, instance: str) -> None:
        self._api = api
        self._instance = instance

    def docker_name(self, name: str) -> str:
        """Return the name that Docker knows a volume by."""
        return f"bhatti-{self._instance}-{name}"

    async def create(self, name: str) -> None:
        """Make an empty volume. Raises `Conflict` (code `volume-exists`)."""
        if name in await self.names():
            raise Conflict(f"there is a volume {name!r} already", code="volume-exists")
        await self._api.create_volume(self.docker_name(name), {LABEL_INSTANCE: self._instance, LABEL_VOLUME: name})

    async def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""
        found = await self._api.volumes(f"{LABEL_INSTANCE}={self._instance}")
        return sorted(labels[LABEL_VOLUME] for volume in found if LABEL_VOLUME in (labels := volume.labels or {}))

    async def remove(self, name: str) -> None:
        """Remove a volume and what is in it. Raises `NotFound`, and `Conflict` while a sandbox has it."""
        try:
            await self._api.remove_volume(self.docker_name(name))
        except NotFound as error:
            raise _not_found(name) from error
        except Conflict as error:
            raise Conflict(
                f"volume {name!r} is in use: {error.message}",
                hint="destroy the sandboxes that have it",
                code="volume-in-use",
            ) from error

    async def check(self, volumes: tuple[VolumeAttachment, ...], taken: set[str]) -> tuple[str, ...]:
        """Return Docker's names of `volumes`; `taken` has those that a sandbox can write to.

        Raises `NotFound` (code `volume-not-found`), and `Conflict` (code `volume-in-use`): one writer at a time.
        """
        if not volumes:
            return ()
        known = await self.names()
        for volume in volumes:
            if volume.name not in known:
                raise _not_found(volume.name)
            if volume.name in taken and not volume.read_only:
                raise Conflict(
                    f"volume {volume.name!r} is attached to a sandbox that can write to it",
                    hint="attach it read-only, or destroy the other sandbox",
                    code="volume-in-use",
                )
        return tuple(self.docker_name(volume.name) for volume in volumes)


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no volume {name!r}", hint="bhatti volume create", code="volume-not-found")
