import base64
import json
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.bhatti.images.oci.serving import Request, Respond, Server

from bhatti.errors import BhattiError, InvalidRequest, Unavailable
from bhatti.images.oci.authorization import Authorization
from bhatti.images.oci.credentials import Credentials
from bhatti.images.oci.web import Transient, Web

Serve = Callable[[Respond], Server]
ALICE = Credentials("alice", "secret")


def asked(server: Server, authorization: Authorization, web: Web) -> bool:
    """Send a request that is refused, and let the refusal be answered."""
    sent = authorization.headers()
    with web.request(f"{server.url}/v2/a/b/manifests/x", sent) as answer:
        assert answer.status == 401
        return authorization.answer(answer, sent)


@pytest.fixture
def web() -> Web:
    return Web(plain=False, loopback=True, timeout_s=5)


def refuse(challenge: str) -> Respond:
    return lambda request: request.answer(401, WWW_Authenticate=challenge)


def giving(tokens: dict[str, str] | bytes, status: int = 200) -> Respond:
    """Be registry and token server in one; the first word of a path says which."""
    body = tokens if isinstance(tokens, bytes) else json.dumps(tokens).encode()

    def respond(request: Request) -> None:
        if request.path.startswith("/token"):
            request.answer(status, body)
        else:
            here = f"http://{request.headers['Host']}/token"
            request.answer(
                401, WWW_Authenticate=f'Bearer realm="{here}",service="the registry",scope="repository:a/b:pull"'
            )

    return respond


def query(path: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))


def test_nothing_is_sent_before_it_is_asked_for(web: Web) -> None:
    assert Authorization(web, "a/b", ALICE).headers() == {}


def test_a_password_is_sent_to_whoever_asks_for_one(web: Web, serve: Serve) -> None:
    server = serve(refuse('Basic realm="x"'))
    authorization = Authorization(web, "a/b", ALICE)
    assert asked(server, authorization, web)
    assert authorization.headers() == {"Authorization": "Basic " + base64.b64encode(b"alice:secret").decode()}
    assert not asked(server, authorization, web)  # it was wrong: no use in sending it again


def test_without_a_password_there_is_no_answer(web: Web, serve: Serve) -> None:
    server = serve(refuse('Basic realm="x"'))
    assert not asked(server, Authorization(web, "a/b", None), web)
    assert not asked(serve(refuse("Negotiate")), Authorization(web, "a/b", ALICE), web)


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_is_fetched_without_an_account(web: Web, serve: Serve, key: str) -> None:
    server = serve(giving({key: "T"}))
    authorization = Authorization(web, "a/b", None)
    assert asked(server, authorization, web)
    assert authorization.headers() == {"Authorization": "Bearer T"}
    seen = server.seen[-1]
    assert query(seen.path) == {"service": "the registry", "scope": "repository:a/b:pull"}
    assert "authorization" not in seen.headers


def test_a_token_is_fetched_with_a_password(web: Web, serve: Serve) -> None:
    server = serve(giving({"token": "T"}))
    authorization = Authorization(web, "a/b", ALICE)
    assert asked(server, authorization, web)
    seen = server.seen[-1]
    assert seen.headers["authorization"] == ALICE.basic()
    assert query(seen.path)["account"] == "alice"


def test_an_identity_token_is_exchanged_by_post(web: Web, serve: Serve) -> None:
    server = serve(giving({"access_token": "T"}))
    assert asked(server, Authorization(web, "a/b", Credentials(identity_token="I d")), web)
    seen = server.seen[-1]
    form = dict(urllib.parse.parse_qsl(seen.body.decode()))
    assert (seen.method, seen.path, "authorization" in seen.headers) == ("POST", "/token", False)
    assert (form["grant_type"], form["refresh_token"], form["scope"]) == ("refresh_token", "I d", "repository:a/b:pull")


def test_an_expired_token_is_replaced_and_only_once_by_many_threads(web: Web, serve: Serve) -> None:
    given = iter(range(100))
    server = serve(lambda request: giving({"token": f"T{next(given)}"})(request))
    authorization = Authorization(web, "a/b", None)
    assert asked(server, authorization, web)
    with web.request(server.url, old := authorization.headers()) as refused, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: authorization.answer(refused, old), range(4)))
    assert answers == [True] * 4
    assert sum(path.startswith("/token") for path in server.paths()) == 2


@pytest.mark.parametrize(
    ("tokens", "status", "kind", "code"),
    [
        (b"{}", 401, InvalidRequest, "registry-denied"),
        (b"{}", 403, InvalidRequest, "registry-denied"),
        (b"{}", 500, Transient, "registry-failing"),
        (b"{}", 429, Transient, "registry-failing"),
        (b"{}", 200, Unavailable, "registry-failing"),
        (b"<html>", 200, Unavailable, "registry-failing"),
        (b'{"token": "a b"}', 200, Unavailable, "registry-failing"),
        (b'{"token": "a\\r\\nX: y"}', 200, Unavailable, "registry-failing"),
        (b'{"token": "' + b"x" * (1 << 19) + b'"}', 200, Unavailable, "registry-failing"),
    ],
)
def test_a_token_server_that_gives_none(
    web: Web, serve: Serve, tokens: bytes, status: int, kind: type[BhattiError], code: str
) -> None:
    server = serve(giving(tokens, status))
    with pytest.raises(kind) as caught:
        asked(server, Authorization(web, "a/b", None), web)
    assert caught.value.code == code


def test_a_password_never_goes_over_plain_http(web: Web, serve: Serve) -> None:
    server = serve(refuse('Bearer realm="http://auth.example/token"'))
    with pytest.raises(InvalidRequest) as caught:
        asked(server, Authorization(web, "a/b", ALICE), web)
    assert caught.value.code == "insecure-registry"


def test_a_realm_may_have_a_query_of_its_own(web: Web, serve: Serve) -> None:
    def respond(request: Request) -> None:
        if request.path.startswith("/token"):
            request.answer(200, b'{"token": "T"}')
        else:
            request.answer(401, WWW_Authenticate=f'Bearer realm="http://{request.headers["Host"]}/token?x=1"')

    server = serve(respond)
    assert asked(server, Authorization(web, "a/b", None), web)
    assert query(server.paths()[-1]) == {"x": "1", "scope": "repository:a/b:pull"}
