import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.serving import Request, Respond, Server, certificate, serving, tls_context

from bhatti.errors import BhattiError, InvalidRequest, Unavailable
from bhatti.images.oci.web import Transient, Web, host_of, origin

Serve = Callable[[Respond], Server]


@pytest.fixture
def web() -> Web:
    return Web(plain=False, loopback=True, timeout_s=5)


def fetch(web: Web, url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    with web.request(url, headers or {}) as answer:
        return answer.status, answer.read_all(1 << 20)


def test_an_answer_is_read(web: Web, serve: Serve) -> None:
    server = serve(lambda request: request.answer(418, b"body"))
    assert fetch(web, f"{server.url}/path?q=1", {"X-Test": "yes"}) == (418, b"body")
    (seen,) = server.seen
    assert (seen.path, seen.headers["x-test"], seen.headers["user-agent"]) == ("/path?q=1", "yes", "bhatti")


def test_a_body_beyond_its_limit_is_read_no_further(web: Web, serve: Serve) -> None:
    server = serve(lambda request: request.answer(200, b"x" * 5_000_000))
    with web.request(server.url) as answer:
        assert len(answer.read_all(1000)) == 1001


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_body_that_is_cut_off_may_be_tried_again(web: Web, serve: Serve, keep: int) -> None:
    server = serve(lambda request: request.answer(200, b"x" * keep, length=5000))
    with pytest.raises(Transient, match=f"{5000 - keep} bytes too early"):
        fetch(web, server.url)


def test_a_server_that_hangs_up_may_be_tried_again(web: Web, serve: Serve) -> None:
    def hang_up(request: Request) -> None:
        request.close_connection = True

    with pytest.raises(Transient, match=r"127\.0\.0\.1:[0-9]+ cannot be reached") as caught:
        fetch(web, serve(hang_up).url)
    assert caught.value.code == "registry-unreachable"


def test_a_server_that_is_not_there_and_one_that_is_silent(serve: Serve) -> None:
    with pytest.raises(Transient, match="refused"):
        fetch(Web(plain=True, loopback=True), "http://127.0.0.1:1")

    def say_nothing(request: Request) -> None:
        request.rfile.read(1)

    silent = serve(say_nothing)
    with pytest.raises(Transient, match="timed out"):
        fetch(Web(plain=True, loopback=True, timeout_s=0.05), silent.url)


def test_redirects_are_followed_without_telling_others_who_we_are(web: Web, serve: Serve) -> None:
    other = serve(lambda request: request.answer(200, b"there"))

    def respond(request: Request) -> None:
        where = {"/a": "/b", "/b": f"{other.url}/c?signature=1"}[request.path]
        request.answer(307, Location=where)

    server = serve(respond)
    assert fetch(web, f"{server.url}/a", {"Authorization": "secret", "Range": "bytes=5-"}) == (200, b"there")
    assert [seen.headers.get("authorization") for seen in server.seen] == ["secret", "secret"]
    (seen,) = other.seen
    assert ("authorization" in seen.headers, seen.headers["range"], seen.path) == (False, "bytes=5-", "/c?signature=1")


def test_redirects_in_circles_end(web: Web, serve: Serve) -> None:
    server = serve(lambda request: request.answer(302, Location="/again"))
    with pytest.raises(Unavailable, match="in circles"):
        fetch(web, server.url)
    assert len(server.seen) == 6


def test_a_post_is_not_redirected(web: Web, serve: Serve) -> None:
    server = serve(lambda request: request.answer(302, Location="/elsewhere"))
    with web.request(server.url, method="POST", body=b"form") as answer:
        assert answer.status == 302
    assert [(seen.method, seen.body) for seen in server.seen] == [("POST", b"form")]


@pytest.mark.parametrize(
    "location", ["http://registry.example/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "http://a b/", "//["]
)
def test_a_redirect_to_where_nothing_may_be_sent_is_refused(web: Web, serve: Serve, location: str) -> None:
    server = serve(lambda request: request.answer(307, Location=location))
    with pytest.raises(InvalidRequest):
        fetch(web, server.url)


def test_plain_http_needs_to_be_allowed() -> None:
    careful = Web(plain=False, loopback=False)
    for url in ("http://127.0.0.1:5000/", "http://registry.example/"):
        with pytest.raises(InvalidRequest, match="is not encrypted") as caught:
            careful.check(url)
        assert caught.value.code == "insecure-registry"
    careful.check("https://registry.example/")
    Web(plain=False, loopback=True).check("http://localhost:5000/")
    with pytest.raises(InvalidRequest):
        Web(plain=False, loopback=True).check("http://registry.example/")
    Web(plain=True, loopback=False).check("http://registry.example/")


def test_tls_needs_a_certificate_that_this_host_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    with serving(lambda request: request.answer(200, b"safe"), tls_context(cert, key)) as server:
        with pytest.raises(Unavailable, match="cannot prove who it is") as caught:
            fetch(Web(plain=False, loopback=False, timeout_s=5), server.url)
        assert caught.value.code == "registry-untrusted"
        assert not isinstance(caught.value, Transient)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert fetch(Web(plain=False, loopback=False, timeout_s=5), server.url) == (200, b"safe")


def test_a_server_without_tls_where_tls_is_expected_is_no_success(serve: Serve) -> None:
    server = serve(lambda request: request.answer(200, b"plain"))
    with pytest.raises(Unavailable, match=r"(?i)ssl|tls"):
        fetch(Web(plain=False, loopback=False, timeout_s=5), server.url.replace("http:", "https:"))


def test_proxies_of_the_environment_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    proxy = serve(lambda request: request.answer(200, b"by proxy"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("https_proxy", proxy.host)
    web = Web(plain=True, loopback=False, timeout_s=5)
    assert fetch(web, "http://registry.example/v2/") == (200, b"by proxy")
    assert proxy.paths() == ["http://registry.example/v2/"]

    cert, key = certificate(tmp_path, "registry.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with serving(lambda request: request.answer(200, b"by tunnel"), tls_context(cert, key)) as server:
        port = server.server_address[1]
        proxy.names["registry.example"] = "127.0.0.1"
        secure = Web(plain=False, loopback=False, timeout_s=5)
        assert fetch(secure, f"https://registry.example:{port}/v2/") == (200, b"by tunnel")
    assert proxy.paths()[1:] == [f"registry.example:{port}"]


def test_no_proxy_stands_between_us_and_ourselves(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = serve(lambda request: request.answer(200, b"direct"))
    assert fetch(Web(plain=True, loopback=True), server.url) == (200, b"direct")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://host/x", ("https", "host", 443)),
        ("http://host", ("http", "host", 80)),
        ("http://[::1]:5000/", ("http", "[::1]", 5000)),
        ("https://user:pw@HOST:1/", ("https", "host", 1)),
    ],
)
def test_the_origin_of_a_url(url: str, parts: tuple[str, str, int]) -> None:
    assert origin(url) == parts


@pytest.mark.parametrize(
    "url", ["", "host", "http://", "http://h:x/", "http://h/\r\nX: y", "http://ü/", "https://h h/"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BhattiError):
        origin(url)


def test_messages_show_no_secrets_of_urls() -> None:
    assert host_of("https://user:secret@host:1/path?token=secret") == "host:1"


def test_the_default_context_verifies() -> None:
    assert Web(plain=False, loopback=False)._tls.verify_mode is ssl.CERT_REQUIRED
