"""Names of images in registries: `[registry[:port]/]repository[:tag][@digest]`.

The grammar is that of the OCI distribution specification; the defaults (`docker.io`, `library/`, `latest`) are those
of Docker, which everybody expects. A name may begin with `http://` or `https://` to say how the registry is spoken to.
"""

import ipaddress
import re
from dataclasses import dataclass

from bhatti.errors import InvalidRequest
from bhatti.images.oci.digest import is_digest

DOCKER_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_HUB_ALIASES = {DOCKER_HUB, "index.docker.io", _HUB_HOST}

MAX_LENGTH = 512
"""Longer than any name: a registry allows 255 characters of repository, a tag has 128, a digest at most 135."""

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SCHEMES = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name taken apart. `scheme` is empty unless it was given; at least one of `tag` and `digest` is set."""

    registry: str
    repository: str
    tag: str
    digest: str = ""
    scheme: str = ""

    @property
    def host(self) -> str:
        """Where the registry answers, `host[:port]`."""
        return _HUB_HOST if self.registry == DOCKER_HUB else self.registry

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest if there is one, as it cannot change its meaning."""
        return self.digest or self.tag

    @property
    def suggested_name(self) -> str:
        """A name for the image on this host: `alpine` for the latest, `alpine-3.19` otherwise."""
        last = self.repository.rpartition("/")[2]
        return last if self.tag in ("", "latest") else f"{last}-{self.tag}"

    def __str__(self) -> str:
        """Write the name in full."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Take a name apart; raises `InvalidRequest` (code `bad-reference`)."""
    if len(text) > MAX_LENGTH:
        raise _bad(text, "it is too long")
    scheme = next((s for s in _SCHEMES if text.startswith(s)), "")
    rest, at, digest = text.removeprefix(scheme).partition("@")
    if at and not is_digest(digest):
        raise _bad(text, "what follows '@' is not a sha256 or sha512 digest")
    registry, rest = _split_registry(rest, known=bool(scheme))
    if not _HOST.fullmatch(registry):
        raise _bad(text, f"{registry!r} is not a host name")
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(text, f"{tag!r} is not a tag")
    if not tag and not digest:
        tag = "latest"
    if registry in _HUB_ALIASES:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository):
        hint = "it must be lower case" if repository != repository.lower() else "it has characters that none may have"
        raise _bad(text, f"{repository!r} is not the name of a repository: {hint}")
    return Reference(registry, repository, tag, digest, scheme.removesuffix("://"))


def is_loopback(host: str) -> bool:
    """Say whether `host[:port]` is this machine, by its name alone: nothing is looked up."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _split_registry(text: str, *, known: bool) -> tuple[str, str]:
    """Split off the registry. Docker's rule: the first part is a host if it looks like one."""
    first, slash, rest = text.partition("/")
    if slash and (known or "." in first or ":" in first or first == "localhost"):
        return first, rest
    return ("" if known else DOCKER_HUB), text


def _bad(text: str, reason: str) -> InvalidRequest:
    shown = text if len(text) <= 120 else text[:117] + "..."
    return InvalidRequest(
        f"{shown!r} does not name an image: {reason}",
        hint="name it like alpine:3.19, registry.example.com/team/app:tag or app@sha256:…",
        code="bad-reference",
    )
