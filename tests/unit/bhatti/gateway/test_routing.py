import pytest

from bhatti.gateway.routing import Destination, destination, url_of


@pytest.mark.parametrize(
    ("path", "going"),
    [
        ("/p/one/", Destination("one", "/", "/p/one")),
        ("/p/one/a/b?c#d", Destination("one", "/a/b?c#d", "/p/one")),
        ("/p/one//x", Destination("one", "//x", "/p/one")),
        ("/p/one", Destination("one", "/", "/p/one", moved="/p/one/")),
        ("/p/one?x", Destination("one", "/?x", "/p/one", moved="/p/one/?x")),
        ("/p/1-2/../x", Destination("1-2", "/../x", "/p/1-2")),
        ("/", None),
        ("/p/", None),
        ("/p//", None),
        ("/p/One/", None),
        ("/p/-one/", None),
        ("/p/one\\/", None),
        ("/p/one.two/", None),
        ("/p/" + "x" * 64 + "/", None),
        ("p/one/", None),
        ("http://x/p/one/", None),
        ("*", None),
    ],
)
def test_without_a_domain_the_path_decides(path: str, going: Destination | None) -> None:
    assert destination(["one.example"], path, "") == going


@pytest.mark.parametrize(
    ("hosts", "alias"),
    [
        (["one.example.org"], "one"),
        (["ONE.Example.ORG:80"], "one"),
        (["one.example.org."], "one"),
        (["one.example.org.:8080"], "one"),
        (["example.org"], None),
        ([".example.org"], None),
        (["a.b.example.org"], None),
        (["one.example.org.evil"], None),
        (["oneexample.org"], None),
        (["one.example.org:80:80"], None),
        (["[::1]"], None),
        ([""], None),
        ([], None),
        (["one.example.org", "two.example.org"], None),
    ],
)
def test_with_a_domain_the_host_decides(hosts: list[str], alias: str | None) -> None:
    going = destination(hosts, "/p/two/", "example.org")
    assert going == (Destination(alias, "/p/two/") if alias else None)


@pytest.mark.parametrize(
    ("domain", "public_url", "url"),
    [
        ("", "", "http://127.0.0.1:8090/p/one/"),
        ("", "https://box.example/", "https://box.example/p/one/"),
        ("", "https://box.example/sites", "https://box.example/sites/p/one/"),
        ("example.org", "", "http://one.example.org:8090/"),
        ("example.org", "https://example.org", "https://one.example.org/"),
        ("example.org", "https://example.org:443", "https://one.example.org/"),
        ("example.org", "https://example.org:8443/", "https://one.example.org:8443/"),
    ],
)
def test_a_site_has_an_address(domain: str, public_url: str, url: str) -> None:
    assert url_of("one", domain=domain, public_url=public_url, port=8090) == url
