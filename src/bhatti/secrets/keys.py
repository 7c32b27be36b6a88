"""The keys of the daemon: what is sealed with the newest of them can be opened with all of them.

Several keys are there while one takes another's place, and when an old one was added to read an old backup.
"""

from collections.abc import Sequence

import pyrage
from pyrage import x25519

from bhatti.errors import CorruptData


class Keys:
    """X25519 keys of age, the newest first. Neither text nor errors show them; only `text` does."""

    __slots__ = ("_identities",)

    def __init__(self, identities: Sequence[x25519.Identity]) -> None:
        self._identities = tuple(identities)

    @classmethod
    def generate(cls) -> "Keys":
        """Return one key that nobody has had before."""
        return cls([x25519.Identity.generate()])

    @classmethod
    def parse(cls, text: str) -> "Keys":
        """Return the keys of a file, one a line, as `age-keygen` writes them; lines with `#` are comments.

        Raises `CorruptData` (code `secret-key-corrupt`), without any of the text.
        """
        lines = [line.strip() for line in text.splitlines()]
        identities = []
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            try:
                identities.append(x25519.Identity.from_str(line))
            except pyrage.IdentityError as err:
                raise CorruptData(
                    f"line {number} of the file of secret keys is not an age key",
                    hint="put the file back from where you keep a copy of it",
                    code="secret-key-corrupt",
                ) from err
        return cls(identities)

    def text(self) -> str:
        """Return what `parse` reads."""
        return "".join(f"{identity}\n" for identity in self._identities)

    def __len__(self) -> int:
        return len(self._identities)

    def followed(self) -> "Keys":
        """Return a new key and, after it, these."""
        return Keys([*Keys.generate()._identities, *self._identities])

    def newest(self) -> "Keys":
        """Return the newest key alone."""
        return Keys(self._identities[:1])

    def seal(self, value: str) -> bytes:
        """Return `value` encrypted for the newest key. Blocks for less than a millisecond."""
        return bytes(pyrage.encrypt(value.encode(), [self._identities[0].to_public()]))

    def open(self, sealed: bytes, what: str) -> str:
        """Return the value that was sealed with one of these keys; `what` names it in the error.

        Raises `CorruptData` (code `secret-unreadable`) for another key's, and for anything else.
        """
        try:
            return bytes(pyrage.decrypt(sealed, self._identities)).decode()
        except (pyrage.DecryptError, UnicodeDecodeError) as err:
            raise CorruptData(
                f"{what} cannot be decrypted",
                hint="its key is not in the file of secret keys: add that key to the file as a line of its own, or set "
                "the secret again",
                code="secret-unreadable",
            ) from err
