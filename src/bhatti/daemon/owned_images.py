"""Images as one user has them: by names of their own, beside those of the administrator, which are everybody's.

Theory of operation. As with volumes (`owned_volumes`), the name that the store and the engine know says whose an image
is. A user's image hides one of the administrator's that has the same name, as far as that user is concerned. The place
of an image that is being made counts from before its first byte, so that any number of pulls at once stay within the
cap.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable

import anyio
import msgspec

from bhatti.daemon.builds import RecordedImages
from bhatti.daemon.owned_volumes import owner_of, prefix_of
from bhatti.errors import BhattiError, Forbidden, NotFound, shortened
from bhatti.images.oci.reference import Reference, parse_reference
from bhatti.images.store import checked_image_name
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.store.sandboxes import Record

Within = Callable[[str, int, int], None]
"""Called with an owner, how many images they have, and how many they ask for; raises if that is more than they may."""


class OwnedImages:
    """Whose the images of a store are. `registries` are those from which users may pull."""

    def __init__(self, images: RecordedImages, within: Within, registries: list[str]) -> None:
        self._images = images
        self._within = within
        self._registries = {name.lower() for name in registries}
        self._coming: Counter[str] = Counter()
        self._counting = anyio.Lock()

    async def seen(self, caller: Caller) -> list[types.Image]:
        """Return the images that `caller` may use, by the names that they have for them. Safe to cancel."""
        found = await self._images.list()
        if caller.admin:
            return found
        own = {image.name for image in found if owner_of(image.name) == caller.owner}
        prefix = prefix_of(caller.owner)
        return sorted(
            (
                self.told(image, caller)
                for image in found
                if image.name in own or (not owner_of(image.name) and prefix + image.name not in own)
            ),
            key=lambda image: image.name,
        )

    async def one(self, name: str, caller: Caller) -> types.Image:
        """Return the image that `caller` calls so; raises `NotFound`. Safe to cancel."""
        for image in await self.seen(caller):
            if image.name == name:
                return image
        raise _not_found(name)

    async def owned(self, owner: str) -> list[str]:
        """Return the names of an owner's images. Safe to cancel."""
        return [image.name for image in await self._images.list() if owner_of(image.name) == owner]

    async def meant(self, name: str, caller: Caller) -> str:
        """Return what the engine calls the image that `caller` means; raises `NotFound` for somebody else's."""
        if caller.admin:
            return name
        if owner_of(name):
            raise _not_found(name)
        own = prefix_of(caller.owner) + name
        return own if await self._images.has(own) else name

    async def check_elsewhere(self, found: str, caller: Caller) -> None:
        """Raise `Forbidden` (code `registry-not-allowed`) unless an engine may look for an image that the store does
        not have: for a user, in the registries that they may pull from. What else the host has is not theirs.

        Raises `InvalidRequest` (code `bad-reference`).
        """
        if not caller.admin and not await self._images.has(found):
            self._check_registry(parse_reference(found))

    async def removable(self, name: str, caller: Caller) -> str:
        """Return what the store calls an image that `caller` may remove; raises `NotFound`, `Forbidden`."""
        found = await self.meant(name, caller)
        if caller.admin or owner_of(found):
            return found
        if not await self._images.has(name):
            raise _not_found(name)
        raise Forbidden(f"the image {name!r} is the administrator's", hint="you can remove those that you have pulled")

    def pulled(self, reference: Reference, name: str | None, caller: Caller) -> str:
        """Return what the store will call an image that `caller` pulls.

        Raises `InvalidRequest` (code `bad-image-name`), and `Forbidden` (code `registry-not-allowed`): whoever names
        the registry has the daemon, which is within the firewall, call there.
        """
        chosen = checked_image_name(name or reference.suggested_name)
        if caller.admin:
            return chosen
        self._check_registry(reference)
        return checked_image_name(prefix_of(caller.owner) + chosen)

    def _check_registry(self, reference: Reference) -> None:
        if reference.registry.lower() not in self._registries:
            allowed = ", ".join(sorted(self._registries)) or "no registry"
            raise Forbidden(
                f"users may pull from {allowed}, not from {reference.registry}",
                hint="have the administrator pull it, or add the registry to the setting `user_registries`",
                code="registry-not-allowed",
            )

    @contextlib.asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        """Keep a place for the image that the block makes, whose owner the name tells.

        Raises `LimitExceeded` (code `image-limit`), and `Unauthorized`, also at the end, for a user who is no more:
        then what was made is removed.
        """
        if not (owner := owner_of(name)):
            yield
            return
        async with self._counting:
            # First what is coming, then what is there: what changes from the one to the other is counted.
            coming = {one for one in self._coming if owner_of(one) == owner}
            taken = coming.union(await self.owned(owner))
            if name not in taken:
                self._within(owner, len(taken), 1)
            self._coming[name] += 1
        try:
            yield
            try:
                self._within(owner, 0, 0)
            except BhattiError:
                await self._images.remove(name)
                raise
        finally:
            self._coming -= Counter([name])

    async def remove(self, name: str, records: Iterable[Record]) -> None:
        """Remove an image, called as in the store, that none of the sandboxes needs; raises as `remove_unused` does."""
        await self._images.remove_unused(name, records)

    def told(self, image: types.Image, caller: Caller) -> types.Image:
        """Return an image by the name that `caller` has for it."""
        if caller.admin:
            return image
        return msgspec.structs.replace(image, name=image.name.removeprefix(prefix_of(caller.owner)))


def _not_found(name: str) -> NotFound:
    shown = shortened(name)
    return NotFound(f"there is no image {shown!r}", hint="`bhatti image ls` shows them", code="image-not-found")
