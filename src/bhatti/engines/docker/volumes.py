"""Volumes: Docker's own, under names of this engine, so that they outlive containers and daemons."""

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import LABEL_INSTANCE
from bhatti.engines.volume_files import volume_exists, volume_not_found
from bhatti.engines.volumes import VolumeKeeper, VolumeUse
from bhatti.errors import Conflict, InvalidRequest, NotFound
from bhatti.model.sandbox import VolumeAttachment

LABEL_VOLUME = "bhatti.volume"

UNBOUNDED_MIB = 1 << 40
"""More than any disk has: nobody counts what volumes take."""


class Volumes(VolumeKeeper):
    """The volumes of one engine. Docker bounds none of them: their size is what was asked for, and no more."""

    def __init__(self, api: DockerApi, instance: str) -> None:
        self._api = api
        self._instance = instance

    def docker_name(self, name: str) -> str:
        """Return the name that Docker knows a volume by."""
        return f"bhatti-{self._instance}-{name}"

    async def create(self, name: str, size_mib: int) -> None:
        """See `VolumeKeeper`; whoever writes to it first makes it that of uid 1000."""
        if name in await self.names():
            raise volume_exists(name)
        await self._api.create_volume(self.docker_name(name), {LABEL_INSTANCE: self._instance, LABEL_VOLUME: name})

    async def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""
        found = await self._api.volumes(f"{LABEL_INSTANCE}={self._instance}")
        return sorted(labels[LABEL_VOLUME] for volume in found if LABEL_VOLUME in (labels := volume.labels or {}))

    async def remove(self, name: str) -> None:
        """See `VolumeKeeper`; raises `Conflict` (code `volume-in-use`) while a sandbox has it."""
        try:
            await self._api.remove_volume(self.docker_name(name))
        except NotFound as error:
            raise volume_not_found(name) from error
        except Conflict as error:
            raise Conflict(
                f"volume {name!r} is in use: {error.message}",
                hint="destroy the sandboxes that have it",
                code="volume-in-use",
            ) from error

    async def resize(self, name: str, size_mib: int) -> None:
        """See `VolumeKeeper`: nothing has to be done, for nothing bounds it."""
        await self.size_mib(name)

    async def clone(self, source: str, name: str) -> None:
        """See `VolumeKeeper`: Docker cannot, raises `InvalidRequest` (code `unsupported`)."""
        raise InvalidRequest(
            "the engine docker cannot clone volumes: where their files are is known to Docker alone",
            hint="attach both to a sandbox, the source read-only, and copy what is in it",
            code="unsupported",
        )

    async def use(self) -> VolumeUse:
        """See `VolumeKeeper`: where Docker keeps its files need not be on this machine."""
        return VolumeUse(free_mib=UNBOUNDED_MIB, used_mib={})

    async def size_mib(self, name: str) -> int | None:
        """See `VolumeKeeper`."""
        if name not in await self.names():
            raise volume_not_found(name)
        return None

    async def sweep(self) -> None:
        """See `VolumeKeeper`: Docker makes a volume whole or not at all."""

    async def check(self, volumes: tuple[VolumeAttachment, ...], taken: set[str]) -> tuple[str, ...]:
        """Return Docker's names of `volumes`; `taken` has those that a sandbox can write to.

        Raises `NotFound` (code `volume-not-found`), and `Conflict` (code `volume-in-use`): one writer at a time.
        """
        if not volumes:
            return ()
        known = await self.names()
        for volume in volumes:
            if volume.name not in known:
                raise volume_not_found(volume.name)
            if volume.name in taken and not volume.read_only:
                raise Conflict(
                    f"volume {volume.name!r} is attached to a sandbox that can write to it",
                    hint="attach it read-only, or destroy the other sandbox",
                    code="volume-in-use",
                )
        return tuple(self.docker_name(volume.name) for volume in volumes)
