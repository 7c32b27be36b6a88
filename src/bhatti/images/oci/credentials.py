"""Who one is at a registry, as Docker keeps it: `config.json`, or a program that asks a key ring.

The file is `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, so that `docker login`, `podman login` and
`skopeo login` work for bhatti too. Docker's documentation, "docker login", describes it.
"""

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bhatti.errors import InvalidRequest, MissingDependency
from bhatti.images.oci.reference import DOCKER_HUB

HELPER_TIMEOUT_S = 60.0
"""A key ring may ask a person for its password."""

_HUB_KEYS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"
"""Says that the secret is an identity token and not a password."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user with a password, or an identity token that stands for both. Secrets are not shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Return the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Auth(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Config(msgspec.Struct, frozen=True, rename={"helpers": "credHelpers", "store": "credsStore"}):
    auths: dict[str, _Auth] = {}
    helpers: dict[str, str] = {}
    store: str = ""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


def find_credentials(registry: str, env: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the credentials for `registry` (`host[:port]`, or `docker.io`), None if there are none.

    Raises `InvalidRequest` (code `bad-docker-config`) for a file that cannot be read, `MissingDependency` for a helper
    that is not installed.
    """
    path = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or "/root", ".docker"), "config.json")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad(path, str(error)) from error
    names = _HUB_KEYS if registry == DOCKER_HUB else (registry,)
    helpers = {_host(key): name for key, name in config.helpers.items()}
    helper = next((helpers[name] for name in names if name in helpers), config.store)
    if helper:
        return _ask(helper, "https://index.docker.io/v1/" if registry == DOCKER_HUB else registry, env)
    stored = {_host(key): auth for key, auth in config.auths.items()}
    auth = next((stored[name] for name in names if name in stored), None)
    return _decode(auth, path) if auth is not None else None


def _decode(auth: _Auth, path: Path) -> Credentials | None:
    username, password = auth.username, auth.password
    if auth.auth:
        try:
            username, _, password = base64.b64decode(auth.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _bad(path, "an entry is not base64") from error
    found = Credentials(username, password.rstrip("\0"), auth.identitytoken)
    return found if found.username or found.identity_token else None


def _ask(helper: str, server: str, env: Mapping[str, str]) -> Credentials | None:
    """Ask `docker-credential-HELPER`, as its protocol says: the server's name in, JSON out."""
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise InvalidRequest(
            f"{helper!r} is no name of a credential helper",
            hint="mend credsStore or credHelpers in Docker's config.json, or give --username",
            code="bad-docker-config",
        )
    try:
        answer = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            env=dict(env),
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingDependency(
            f"Docker's configuration names the credential helper {program}, which is not installed",
            hint="install it, or remove credsStore and credHelpers from config.json",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(f"{program} did not answer within {HELPER_TIMEOUT_S:.0f} s") from error
    if answer.returncode != 0:
        return None  # that is how helpers say that they know none
    try:
        found = msgspec.json.decode(answer.stdout, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"{program} gave an answer that makes no sense",
            hint="run that program by hand to see what it says, or give --username",
            code="bad-docker-config",
        ) from error
    if found.username == _TOKEN_USER:
        return Credentials(identity_token=found.secret)
    return Credentials(found.username, found.secret)


def _host(key: str) -> str:
    """Return the host of a key of the file, which may be a URL: `https://index.docker.io/v1/`."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _bad(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path} cannot be used: {reason}", hint="log in again", code="bad-docker-config")
