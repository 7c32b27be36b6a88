"""What the server asks of the daemon about volumes."""

import abc

from bhatti.model.user import Caller
from bhatti.operations import types


class VolumeBackend(abc.ABC):
    """Volumes as the server sees them. Sandboxes keep theirs until they are destroyed, asleep or failed too."""

    @abc.abstractmethod
    def of(self, caller: Caller) -> "VolumeBackend":
        """Return the volumes that the caller may see, by the caller's names for them."""

    @abc.abstractmethod
    async def create(self, request: types.VolumeCreate) -> types.Volume:
        """Make a volume; raises `Conflict` (code `volume-exists`), `OutOfSpace`. When cancelled, it is undone."""

    @abc.abstractmethod
    async def list(self) -> list[types.Volume]:
        """Return the volumes by name. Safe to cancel."""

    @abc.abstractmethod
    async def get(self, name: str) -> types.Volume:
        """Return one volume; raises `NotFound` (code `volume-not-found`). Safe to cancel."""

    @abc.abstractmethod
    async def remove(self, name: str) -> None:
        """Remove a volume; raises `NotFound`, `Conflict` (code `volume-in-use`), `Busy`. Cancelled, it goes on."""

    @abc.abstractmethod
    async def resize(self, name: str, request: types.VolumeResize) -> types.Volume:
        """Let a volume have more space; raises like `remove`, `InvalidRequest`, `OutOfSpace`. Cancelled, it goes on."""

    @abc.abstractmethod
    async def clone(self, name: str, request: types.VolumeClone) -> types.Volume:
        """Make a copy of a volume; raises like `create` and `remove`. When cancelled, it is undone."""
