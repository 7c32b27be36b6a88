import msgspec

from bhatti.operations.documents.ports import ListeningPort, SandboxPort


def test_names_are_those_of_the_reference() -> None:
    port = ListeningPort(container_port=80, proxy_url="/x/", addresses=["::"])
    assert msgspec.to_builtins(port) == {"container_port": 80, "proxy_url": "/x/", "addresses": ["::"]}
    owned = SandboxPort(sandbox_id="s1", sandbox="one", **msgspec.structs.asdict(port))
    assert set(msgspec.to_builtins(owned)) == {"container_port", "proxy_url", "addresses", "sandbox_id", "sandbox"}
