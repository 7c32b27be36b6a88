"""Volumes as one user has them: by names of their own.

Theory of operation. A volume has one name for the store, the engine and the administrator, which says whose it is:
`usr_1a2b3c4d.data` is the volume `data` of that user, a name without such a beginning is the administrator's own. What
a user says is led there and nowhere else, and comes back without the beginning, errors included; so a volume of
somebody else cannot even be named.
"""

import contextlib
import re
from collections.abc import Iterator

import msgspec

from bhatti.daemon.attachments import Wanted
from bhatti.errors import BhattiError
from bhatti.model.sandbox import checked_name
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.server.volumes import VolumeBackend

OWNED = re.compile(r"(usr_[0-9a-f]{8})\..+")
"""What the names of users' volumes look like."""


def owner_of(name: str) -> str:
    """Return whose volume has this name."""
    found = OWNED.fullmatch(name)
    return found[1] if found else ""


def spoken(name: str) -> str:
    """Return the name of a volume as its owner says it."""
    return name.removeprefix(prefix_of(owner_of(name)))


def prefix_of(owner: str) -> str:
    """Return what the names of an owner's volumes begin with."""
    return f"{owner}." if owner else ""


def led(wanted: Wanted, owner: str) -> Wanted:
    """Return what an owner asks for, by the names that the engine knows."""
    prefix = prefix_of(owner)
    return Wanted(
        volumes=tuple(msgspec.structs.replace(asked, name=prefix + asked.name) for asked in wanted.volumes),
        sizes_mib={prefix + name: size for name, size in wanted.sizes_mib.items()},
    )


@contextlib.contextmanager
def in_words_of(owner: str) -> Iterator[None]:
    """Let the errors of the block speak of volumes as their owner does."""
    try:
        yield
    except BhattiError as err:
        if prefix := prefix_of(owner):
            err.message = err.message.replace(prefix, "")
            err.hint = err.hint.replace(prefix, "") if err.hint else err.hint
        raise


class OwnedVolumes(VolumeBackend):
    """The volumes of one user, among those of `everybody`."""

    def __init__(self, everybody: VolumeBackend, owner: str) -> None:
        self._everybody = everybody
        self._owner = owner

    def of(self, caller: Caller) -> VolumeBackend:
        """See `VolumeBackend`."""
        return self._everybody.of(caller)

    async def create(self, request: types.VolumeCreate) -> types.Volume:
        """See `VolumeBackend`."""
        renamed = msgspec.structs.replace(request, name=self._led(request.name))
        with in_words_of(self._owner):
            return self._told(await self._everybody.create(renamed))

    async def list(self) -> list[types.Volume]:
        """See `VolumeBackend`."""
        return [self._told(found) for found in await self._everybody.list() if owner_of(found.name) == self._owner]

    async def get(self, name: str) -> types.Volume:
        """See `VolumeBackend`."""
        with in_words_of(self._owner):
            return self._told(await self._everybody.get(prefix_of(self._owner) + name))

    async def remove(self, name: str) -> None:
        """See `VolumeBackend`."""
        with in_words_of(self._owner):
            await self._everybody.remove(prefix_of(self._owner) + name)

    async def resize(self, name: str, request: types.VolumeResize) -> types.Volume:
        """See `VolumeBackend`."""
        with in_words_of(self._owner):
            return self._told(await self._everybody.resize(prefix_of(self._owner) + name, request))

    async def clone(self, name: str, request: types.VolumeClone) -> types.Volume:
        """See `VolumeBackend`."""
        renamed = msgspec.structs.replace(request, name=self._led(request.name))
        with in_words_of(self._owner):
            return self._told(await self._everybody.clone(prefix_of(self._owner) + name, renamed))

    def _led(self, name: str) -> str:
        return prefix_of(self._owner) + checked_name(name, "a volume")

    def _told(self, volume: types.Volume) -> types.Volume:
        return msgspec.structs.replace(volume, name=volume.name.removeprefix(prefix_of(self._owner)))
