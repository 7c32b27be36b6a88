"""Where volumes are. An engine has one keeper; which sandbox may have which volume is decided above it.

A keeper knows names and sizes and nothing else; names have been checked. What it makes is there whole or not at all.
"""

import abc

import msgspec


class VolumeUse(msgspec.Struct, frozen=True, kw_only=True):
    """What volumes may still take and have taken, in MiB: free space where they are, and blocks used by each."""

    free_mib: int
    used_mib: dict[str, int]


class VolumeKeeper(abc.ABC):
    """The volumes of one engine."""

    @abc.abstractmethod
    async def create(self, name: str, size_mib: int) -> None:
        """Make an empty volume whose root directory is that of uid 1000.

        Raises `Conflict` (code `volume-exists`), `OutOfSpace`, `MissingDependency`, `EngineFailure`. When cancelled,
        it is there or nothing of it is.
        """

    @abc.abstractmethod
    async def remove(self, name: str) -> None:
        """Remove a volume and what is in it; raises `NotFound` (code `volume-not-found`). Safe to repeat."""

    @abc.abstractmethod
    async def resize(self, name: str, size_mib: int) -> None:
        """Let a volume that nobody uses have more space. On failure, or killed, it is as it was.

        Raises like `create`, and `NotFound` and `CorruptData` (code `volume-corrupt`).
        """

    @abc.abstractmethod
    async def clone(self, source: str, name: str) -> None:
        """Make a volume with what is in another one, to which nobody writes. Raises like `create` and `resize`."""

    @abc.abstractmethod
    async def use(self) -> VolumeUse:
        """Return how much space there is and how much each volume has taken. Safe to cancel."""

    @abc.abstractmethod
    async def size_mib(self, name: str) -> int | None:
        """Return how large a volume is, or None if the keeper does not bound it. Raises `NotFound`."""

    @abc.abstractmethod
    async def sweep(self) -> None:
        """Remove what was being made when an earlier daemon was killed. To be called before anything is made."""
