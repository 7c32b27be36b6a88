"""Digests, as images name their contents by them: `sha256:…` (OCI image specification, descriptor.md)."""

import hashlib
import re
from typing import Annotated, BinaryIO

import msgspec

from bhatti.errors import CorruptData

PATTERN = r"^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z"
"""The two algorithms that the specification registers. A digest is used as a file name: nothing else may pass."""

Digest = Annotated[str, msgspec.Meta(pattern=PATTERN)]

CHUNK_BYTES = 1 << 20

_PATTERN = re.compile(PATTERN)


def is_digest(text: str) -> bool:
    """Say whether `text` is a digest that we can compute."""
    return _PATTERN.match(text) is not None


def hex_part(digest: str) -> str:
    """Return the digest without its algorithm."""
    return digest.partition(":")[2]


def digest_of(content: bytes, *, like: str = "sha256:") -> str:
    """Return the digest of `content` by the algorithm of `like`."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class Verifier:
    """Takes content piece by piece and tells at the end whether it is what its digest says."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.size_bytes = 0
        self._hash = hashlib.new(digest.partition(":")[0])

    def update(self, data: bytes) -> None:
        """Take the next piece."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def matches(self) -> bool:
        """Say whether what came so far is all of the content."""
        return self._hash.hexdigest() == hex_part(self.digest)

    def check(self, what: str, origin: str) -> None:
        """Raise `CorruptData` (code `digest-mismatch`) unless it matches; `what` of `origin` names it for people."""
        if not self.matches():
            found = f"{self.digest.partition(':')[0]}:{self._hash.hexdigest()}"
            raise mismatch(what, origin, self.digest, found)


def check_bytes(content: bytes, digest: str, what: str, origin: str) -> None:
    """Raise `CorruptData` (code `digest-mismatch`) unless `content` has that digest."""
    verifier = Verifier(digest)
    verifier.update(content)
    verifier.check(what, origin)


def check_file(file: BinaryIO, digest: str, what: str, origin: str) -> None:
    """Read `file` from its beginning and leave it there; raises like `check_bytes`."""
    verifier = Verifier(digest)
    file.seek(0)
    while data := file.read(CHUNK_BYTES):
        verifier.update(data)
    file.seek(0)
    verifier.check(what, origin)


def mismatch(what: str, origin: str, promised: str, found: str) -> CorruptData:
    """Return the error for content that is not what its digest says."""
    return CorruptData(
        f"{what} of {origin} is not what it is said to be: its digest should be {promised} and is {found}",
        hint="fetch or save the image again; if this stays, whoever serves it is damaged or lying",
        code="digest-mismatch",
    )
