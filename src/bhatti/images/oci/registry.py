"""Ask a registry: the pull half of the OCI distribution specification, which Docker's registries speak too."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import msgspec

from bhatti.errors import BhattiError, InvalidRequest, NotFound, Unavailable
from bhatti.images.oci import documents
from bhatti.images.oci.authorization import Authorization
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.digest import check_bytes, is_digest
from bhatti.images.oci.download import RETRY, Retry
from bhatti.images.oci.reference import Reference, is_loopback
from bhatti.images.oci.tarfields import shown
from bhatti.images.oci.web import Answer, Transient, Web, origin

MAX_ERROR_BYTES = 16 << 10

_ACCEPT = ", ".join((*documents.INDEX_TYPES, *documents.MANIFEST_TYPES))
_SECONDS = re.compile(r"[0-9]{1,6}")

T = TypeVar("T")


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []


class Registry:
    """One repository of one registry. Safe to use from several threads.

    Every method raises `NotFound` (code `image-not-found`), `InvalidRequest` (`registry-denied`,
    `insecure-registry`), `Unavailable` (`registry-unreachable`, `registry-untrusted`, `registry-failing`,
    `registry-rate-limit`) and `CorruptData` (`digest-mismatch`).
    """

    def __init__(
        self, reference: Reference, credentials: Credentials | None, *, insecure: bool, retry: Retry = RETRY
    ) -> None:
        """Speak HTTP to this machine and, if `insecure`, to every registry; otherwise only TLS."""
        plain = insecure or is_loopback(reference.host)
        scheme = reference.scheme or ("http" if plain else "https")
        self._origin = str(reference)
        self._base = f"{scheme}://{reference.host}/v2/{reference.repository}"
        self._web = Web(plain=insecure, loopback=is_loopback(reference.host))
        self._web.check(self._base)
        self._authorization = Authorization(self._web, reference.repository, credentials)
        self._retry = retry

    def manifest(self, wanted: str) -> tuple[bytes, str]:
        """Return the manifest or index called `wanted` (tag or digest), and the digest that it turned out to have."""

        def ask() -> tuple[bytes, str]:
            with self._get(f"/manifests/{wanted}", {"Accept": _ACCEPT}, "the manifest") as answer:
                content = answer.read_all(documents.MAX_DOCUMENT_BYTES)
                return content, answer.headers.get("Docker-Content-Digest", "")

        content, promised = self._retrying(ask)
        digest = wanted if is_digest(wanted) else promised
        if is_digest(digest):
            check_bytes(content, digest, "the manifest", self._origin)
        return content, digest

    def document(self, descriptor: documents.Descriptor, what: str) -> bytes:
        """Return a small blob, its digest verified."""

        def ask() -> bytes:
            with self.open_blob(descriptor.digest, 0) as answer:
                return answer.read_all(documents.MAX_DOCUMENT_BYTES)

        content = self._retrying(ask)
        check_bytes(content, descriptor.digest, what, self._origin)
        return content

    @contextmanager
    def open_blob(self, digest: str, start: int) -> Iterator[Answer]:
        """Yield the answer with a blob from the byte `start` on: of status 200, 206 or 416."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._get(f"/blobs/{digest}", headers, "a blob", accepted=(200, 206, 416)) as answer:
            yield answer

    @contextmanager
    def _get(
        self, path: str, headers: dict[str, str], what: str, *, accepted: tuple[int, ...] = (200,)
    ) -> Iterator[Answer]:
        url = self._base + path
        for attempt in range(2):
            sent = headers | self._authorization.headers()
            with self._web.request(url, sent) as answer:
                # Only the registry itself may ask who we are, not whomever it sends us to.
                asked = answer.status == 401 and origin(answer.url) == origin(url)
                if asked and attempt == 0 and self._authorization.answer(answer, sent):
                    continue
                if answer.status not in accepted:
                    raise self._refusal(answer, what)
                yield answer
                return

    def _refusal(self, answer: Answer, what: str) -> BhattiError:
        """Return the error that the answer amounts to."""
        said = f"{what} of {self._origin}: the registry answered {answer.status}{_reason(answer)}"
        if answer.status == 404:
            return NotFound(said, hint="check the name and the tag of the image", code="image-not-found")
        if answer.status in (401, 403):
            return InvalidRequest(
                said,
                hint="check the name of the image, and the user and password (docker login)",
                code="registry-denied",
            )
        asked = answer.headers.get("Retry-After", "")
        delay = float(asked) if _SECONDS.fullmatch(asked) else 0.0
        if answer.status == 429:
            hint = "wait, or log in: registries allow more to those they know"
            return Transient(said, hint=hint, code="registry-rate-limit", retry_after_s=delay)
        if answer.status >= 500:
            return Transient(said, hint="try again in a while", code="registry-failing", retry_after_s=delay)
        return Unavailable(said, hint="is it a registry?", code="registry-failing")

    def _retrying(self, ask: Callable[[], T]) -> T:
        """Ask until it goes well; every request here only reads, so that repeating it is safe."""
        failures = 0
        while True:
            try:
                return ask()
            except Transient as error:
                failures += 1
                if failures >= self._retry.attempts:
                    raise
                self._retry.wait(failures, error.retry_after_s)


def _reason(answer: Answer) -> str:
    """Return what a registry says about an error, made safe to show."""
    with suppress(BhattiError, msgspec.MsgspecError, UnicodeDecodeError):
        problems = msgspec.json.decode(answer.read_all(MAX_ERROR_BYTES), type=_Problems).errors
        if problems:
            return f" ({shown(problems[0].code.encode())}: {shown(problems[0].message.encode())})"
    return ""
