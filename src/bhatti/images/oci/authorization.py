"""Prove to a registry who we are: tokens for one repository, or a user and a password.

The token flow is that of the distribution project ("Docker Registry v2 authentication"): the registry's 401 names a
server, that server gives a token, the token opens the repository. Public images need one too, without a password.
"""

import threading
import urllib.parse
from typing import Annotated

import msgspec

from bhatti.errors import InvalidRequest, Unavailable
from bhatti.images.oci.challenge import Challenge, choose, parse_challenges
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.web import Answer, Transient, Web

MAX_TOKEN_BYTES = 256 << 10

_Token = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]*\Z")]
"""Goes into a header: nothing in it may end the line."""


class _Tokens(msgspec.Struct, frozen=True):
    token: _Token = ""
    access_token: _Token = ""


class Authorization:
    """What to send so that a registry lets us read `repository`. Safe to use from several threads."""

    def __init__(self, web: Web, repository: str, credentials: Credentials | None) -> None:
        self._web = web
        self._repository = repository
        self._credentials = credentials
        self._header = ""
        self._lock = threading.Lock()

    def headers(self) -> dict[str, str]:
        """Return the headers to send; none until the registry has asked."""
        return {"Authorization": self._header} if self._header else {}

    def answer(self, refused: Answer, sent: dict[str, str]) -> bool:
        """Take the registry's 401 to a request with the headers `sent`; say whether to ask again.

        Raises `InvalidRequest` (codes `registry-denied`, `insecure-registry`), `Transient`, `Unavailable`.
        """
        with self._lock:
            if self._header and sent.get("Authorization") != self._header:
                return True  # another thread has been here meanwhile
            challenge = choose(parse_challenges(refused.headers.get_all("WWW-Authenticate", [])))
            if challenge is None:
                return False
            if challenge.scheme == "basic":
                header = self._credentials.basic() if self._credentials else ""
            else:
                header = f"Bearer {self._token(challenge)}"
            if header in ("", self._header):
                return False
            self._header = header
            return True

    def _token(self, challenge: Challenge) -> str:
        realm = challenge.parameters["realm"]
        self._web.check(realm)
        scope = challenge.parameters.get("scope") or f"repository:{self._repository}:pull"
        query = {"service": challenge.parameters.get("service", ""), "scope": scope}
        credentials = self._credentials
        if credentials and credentials.identity_token:
            form = query | {
                "grant_type": "refresh_token",
                "client_id": "bhatti",
                "refresh_token": credentials.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = self._web.request(realm, headers, method="POST", body=urllib.parse.urlencode(form).encode())
        else:
            if credentials:
                query["account"] = credentials.username
            separator = "&" if urllib.parse.urlsplit(realm).query else "?"
            headers = {"Authorization": credentials.basic()} if credentials else {}
            request = self._web.request(f"{realm}{separator}{urllib.parse.urlencode(query)}", headers)
        with request as answer:
            content = answer.read_all(MAX_TOKEN_BYTES)
            return _read_token(answer, content, realm)


def _read_token(answer: Answer, content: bytes, realm: str) -> str:
    host = urllib.parse.urlsplit(realm).netloc
    if answer.status in (400, 401, 403, 404):
        raise InvalidRequest(
            f"{host} gives us no token: it answered {answer.status}",
            hint="check the name of the image, and the user and password (docker login)",
            code="registry-denied",
        )
    if answer.status >= 500 or answer.status == 429:
        raise Transient(f"{host} gives no tokens at the moment: it answered {answer.status}", code="registry-failing")
    try:
        tokens = msgspec.json.decode(content, type=_Tokens)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"{host} gives tokens that make no sense: {error}", code="registry-failing") from error
    token = tokens.token or tokens.access_token
    if not token:
        raise Unavailable(f"{host} answered without a token", code="registry-failing")
    return token
