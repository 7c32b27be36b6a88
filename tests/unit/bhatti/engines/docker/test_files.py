import os
import socket
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.docker.files import Home, LinkTransport, config_document, remove_tree
from bhatti.errors import Unavailable
from bhatti.model.sandbox import GuestFile
from lohar.config import parse
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "box")
    home.make()
    return home


def test_directories_are_closed_to_others(home: Home) -> None:
    for path in (home.directory, home.config, home.link):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_there_is_nobodys_to_take(home: Home) -> None:
    with pytest.raises(FileExistsError):
        home.make()


def test_what_the_agent_reads_is_replaced_at_once_be_it_a_pipe(home: Home) -> None:
    os.mkfifo(home.document)
    home.write(b"first")
    home.write(b"second")
    assert home.document.read_bytes() == b"second"
    assert [path.name for path in home.config.iterdir()] == ["config.json"]


def test_the_agent_is_told_all_of_it_and_the_sandbox_outranks_the_image() -> None:
    spec = new_spec(env={"A": "mine"}, files=(GuestFile("/etc/x", b"\0\xff", "0600"),), init="echo hi", user="somebody")
    document = config_document(spec, {"A": "image", "PATH": "/image/bin"})
    config = parse(document)
    assert (config.token, config.hostname, config.user, config.init) == (spec.token, "box", "somebody", "echo hi")
    assert config.env == {"A": "mine", "PATH": "/image/bin"}
    assert [(file.path, file.content, file.mode) for file in config.files] == [("/etc/x", b"\0\xff", 0o600)]
    assert config.sandbox_id == spec.id
    assert msgspec.json.decode(document)["volumes"] == []


def test_everything_goes_and_twice_is_no_harm(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(home.link / "control.sock"))
    home.remove_sockets()
    home.remove_sockets()
    assert list(home.link.iterdir()) == []
    remove_tree(home.directory)
    remove_tree(home.directory)
    assert not home.directory.exists()


def test_a_container_can_build_nothing_that_cannot_be_removed(home: Home) -> None:
    (home.link / "control.sock").mkdir()
    deepest = os.open(home.link, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deepest)
        inner = os.open("d", os.O_RDONLY, dir_fd=deepest)
        os.close(deepest)
        deepest = inner
    os.close(deepest)
    home.remove_sockets()
    assert not (home.link / "control.sock").exists()
    remove_tree(home.directory)
    assert not home.directory.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["link", "file", "pipe", "directory"])
async def test_what_a_container_puts_in_the_place_of_a_socket_is_not_connected_to(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "control.sock", tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(other))
        listener.listen()
        match what:
            case "link":
                path.symlink_to(other)
            case "file":
                path.touch()
            case "pipe":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
        with pytest.raises(Unavailable) as caught:
            await LinkTransport(tmp_path).connect(CONTROL_PORT)
        assert caught.value.code == "guest-unreachable"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.anyio
@pytest.mark.parametrize("depth", [0, 10])
async def test_sockets_are_reached_however_deep_they_lie(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    near = Path("/tmp") / f"bhatti-test-{tmp_path.name}-{depth}"  # a short way to bind by
    near.symlink_to(folder)
    try:
        for name, port in (("control.sock", CONTROL_PORT), ("forward.sock", FORWARD_PORT)):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(near / name))
                listener.listen()
                transport = LinkTransport(folder)
                (await transport.connect(port)).close()
                listener.accept()[0].close()
                assert str(transport) == f"unix:{folder}/control.sock"
    finally:
        near.unlink()


@pytest.mark.anyio
async def test_sockets_that_are_not_there_are_unavailable(tmp_path: Path) -> None:
    transport = LinkTransport(tmp_path)
    with pytest.raises(Unavailable):
        await transport.connect(CONTROL_PORT)
