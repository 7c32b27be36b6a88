import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import OutOfSpace
from bhatti.images.config_drive import ConfigFile, ConfigVolume, GuestConfig, make_config_drive
from lohar import config as agent

CONFIG = GuestConfig(
    sandbox_id="abc",
    hostname="box",
    token="secret",
    env={"QUOTES": "\"'\n", "UNICODE": "ä€😀"},
    files={"/home/lohar/.env": ConfigFile(content=b"\0\xff", mode="0600")},
    volumes=(ConfigVolume(device="/dev/vde", mount="/data", read_only=True),),
    dns=("1.1.1.1",),
    init="echo hi",
    generation=2,
)


def test_the_agent_reads_what_the_host_wrote(tmp_path: Path) -> None:
    image = tmp_path / "config.ext4"
    make_config_drive(image, CONFIG)
    read = agent.parse(debugfs(image, "cat /config.json").encode())
    assert (read.sandbox_id, read.hostname, read.token, read.user) == ("abc", "box", "secret", "lohar")
    assert read.env == CONFIG.env
    assert read.files == (agent.InjectedFile(path="/home/lohar/.env", content=b"\0\xff", mode=0o600),)
    assert read.volumes == (agent.Volume(device="/dev/vde", mount="/data", read_only=True),)
    assert (read.dns, read.init, read.generation) == (("1.1.1.1",), "echo hi", 2)


def test_every_field_is_in_the_document_even_when_empty(tmp_path: Path) -> None:
    make_config_drive(tmp_path / "config.ext4", GuestConfig(sandbox_id="a", hostname="b", token="c"))
    document = json.loads(debugfs(tmp_path / "config.ext4", "cat /config.json"))
    wanted = {"sandbox_id", "hostname", "token", "user", "env", "files", "volumes", "dns", "init", "generation"}
    assert set(document) == wanted
    assert document["user"] == "lohar"


def test_only_root_of_the_guest_and_the_owner_on_the_host_can_read_it(tmp_path: Path) -> None:
    image = tmp_path / "config.ext4"
    make_config_drive(image, CONFIG)
    assert image.stat().st_mode & 0o777 == 0o600
    for_root_alone(image)


def for_root_alone(image: Path) -> None:
    said = debugfs(image, "stat /config.json")
    assert "Mode:  0600" in said
    assert "User:     0   Group:     0" in said


@pytest.mark.root
@pytest.mark.skipif(not Path("/").stat().st_mode & 0o001, reason='only root may pass "/" of this machine')
def test_a_drive_made_by_an_ordinary_user_is_for_the_guests_root_too() -> None:
    code = (
        "import os, sys; from pathlib import Path; from bhatti.images.config_drive import *;"
        "os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000);"
        "make_config_drive(Path(sys.argv[1]), GuestConfig(sandbox_id='a', hostname='b', token='c'))"
    )
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to other users
        image = Path(directory, "config.ext4")
        os.chown(directory, 1000, 1000)
        subprocess.run([sys.executable, "-c", code, image], check=True)
        assert image.stat().st_uid == 1000
        for_root_alone(image)


def test_a_large_file_fits(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 8
    config = GuestConfig(sandbox_id="a", hostname="b", token="c", files={"/large": ConfigFile(content=content)})
    make_config_drive(tmp_path / "config.ext4", config)
    assert agent.parse(debugfs(tmp_path / "config.ext4", "cat /config.json").encode()).files[0].content == content


def test_nothing_but_the_drive_is_left(tmp_path: Path) -> None:
    make_config_drive(tmp_path / "config.ext4", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["config.ext4"]


@pytest.mark.root
def test_a_full_disk_is_told_and_nothing_is_left(tiny_disk: Path) -> None:
    (tiny_disk / "other").write_bytes(bytes(1000 << 10))
    files = {"/large": ConfigFile(content=bytes(200 << 10))}
    with pytest.raises(OutOfSpace):
        make_config_drive(tiny_disk / "config.ext4", GuestConfig(sandbox_id="a", hostname="b", token="c", files=files))
    assert [path.name for path in tiny_disk.iterdir()] == ["other"]
