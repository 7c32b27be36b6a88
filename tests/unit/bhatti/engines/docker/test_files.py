import socket
from pathlib import Path

import msgspec
import pytest
from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.docker.files import (
    ContainerFiles,
    LinkTransport,
    make_directories,
    remove_files,
    remove_sockets,
    write_config,
)
from bhatti.errors import Unavailable
from bhatti.model.sandbox import GuestFile
from lohar.config import parse
from lohar.wire.frames import CONTROL_PORT, FORWARD_PORT


@pytest.fixture
def files(tmp_path: Path) -> ContainerFiles:
    files = ContainerFiles(tmp_path / "box")
    make_directories(files)
    return files


def test_directories_are_closed_to_others(files: ContainerFiles) -> None:
    for path in (files.directory, files.config, files.link):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_there_is_nobodys_to_take(files: ContainerFiles) -> None:
    with pytest.raises(FileExistsError):
        make_directories(files)


def test_the_agent_is_told_all_of_it_and_the_sandbox_outranks_the_image(files: ContainerFiles) -> None:
    spec = new_spec(env={"A": "mine"}, files=(GuestFile("/etc/x", b"\0\xff", "0600"),), init="echo hi", user="somebody")
    write_config(files, spec, {"A": "image", "PATH": "/image/bin"})
    config = parse((files.config / "config.json").read_bytes())
    assert (config.token, config.hostname, config.user, config.init) == (spec.token, "box", "somebody", "echo hi")
    assert config.env == {"A": "mine", "PATH": "/image/bin"}
    assert [(file.path, file.content, file.mode) for file in config.files] == [("/etc/x", b"\0\xff", 0o600)]
    assert config.sandbox_id == spec.id
    assert msgspec.json.decode((files.config / "config.json").read_bytes())["volumes"] == []


def test_everything_goes_and_twice_is_no_harm(files: ContainerFiles) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(files.link / "control.sock"))
    remove_sockets(files)
    remove_sockets(files)
    assert list(files.link.iterdir()) == []
    remove_files(files.directory)
    remove_files(files.directory)
    assert not files.directory.exists()


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
                transport.close()
                transport.close()
    finally:
        near.unlink()


@pytest.mark.anyio
async def test_sockets_that_are_not_there_are_unavailable(tmp_path: Path) -> None:
    transport = LinkTransport(tmp_path)
    with pytest.raises(Unavailable):
        await transport.connect(CONTROL_PORT)
    transport.close()
