"""The config drive: what one guest is told at boot, on a tiny read-only file system."""

import os
import tempfile
from pathlib import Path

import msgspec

from bhatti.images.ext4 import make_ext4, space_needed
from bhatti.images.programs import run_program


class ConfigFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file for the guest; `content` is base64 in JSON, `mode` octal text."""

    content: bytes
    mode: str = "0644"


class ConfigVolume(msgspec.Struct, frozen=True, omit_defaults=True):
    """A volume as the guest sees it: `device` is `/dev/vde` or later."""

    device: str
    mount: str
    fs: str = "ext4"
    read_only: bool = False


class GuestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`config.json` as `lohar.config.parse` reads it.

    `token` is the secret that the agent asks of every connection. `generation` is 0 for a booted guest and grows with
    every identity given to a fork.
    """

    sandbox_id: str
    hostname: str
    token: str
    user: str = "lohar"
    env: dict[str, str] = {}
    files: dict[str, ConfigFile] = {}
    volumes: tuple[ConfigVolume, ...] = ()
    dns: tuple[str, ...] = ()
    init: str | None = None
    generation: int = 0


def make_config_drive(path: Path, config: GuestConfig) -> None:
    """Create the drive's image at `path`, readable by its owner only; takes a few milliseconds and no root.

    On failure no file is left. Raises `MissingDependency`, `OutOfSpace`, `EngineFailure`.
    """
    content = msgspec.json.encode(config)
    with space_needed(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".config-") as directory:
        document = Path(directory) / "config.json"
        document.touch(0o600)
        document.write_bytes(content)
        make_ext4(
            path,
            size_bytes=(len(content) * 11 // 10 + (256 << 10)) & ~4095,
            label="bhatti-config",
            source=Path(directory),
            options=("-b", "1024", "-N", "16", "-O", "none,extent,filetype,large_file", "-E", "root_owner=0:0"),
        )
    if os.geteuid() != 0:
        # The file has our user's number, which in the guest may well be that of its ordinary user: the token is not
        # for that one to read.
        for field in ("uid", "gid"):
            run_program(["debugfs", "-w", "-R", f"set_inode_field /config.json {field} 0", path])
