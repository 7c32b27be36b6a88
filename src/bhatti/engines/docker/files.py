"""The files of one container on the host: their names, how they are made, and how they go.

SANDBOXES/ID/container.json   the record
SANDBOXES/ID/config/          mounted read-only in the container: what the agent is told
SANDBOXES/ID/link/            mounted in the container: the agent makes its sockets there
"""

import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhatti.guestlink.transports import UnixTransport
from bhatti.images.config_drive import ConfigFile, GuestConfig
from bhatti.images.programs import run_program
from bhatti.model.sandbox import SandboxSpec

CONTROL_SOCKET = "control.sock"
FORWARD_SOCKET = "forward.sock"


@dataclass(frozen=True, slots=True)
class Home:
    """What is mounted in one container, in `directory`."""

    directory: Path

    @property
    def config(self) -> Path:
        """The directory of `config.json`."""
        return self.directory / "config"

    @property
    def link(self) -> Path:
        """The directory of the agent's sockets."""
        return self.directory / "link"

    @property
    def document(self) -> Path:
        """What the agent reads: `config.json`, or until there is one, a pipe at which the agent waits for it."""
        return self.config / "config.json"

    def make(self) -> None:
        """Make the directories, closed to all other users of the host; raises `FileExistsError`."""
        self.directory.mkdir(mode=0o700)
        self.config.mkdir(mode=0o700)
        self.link.mkdir(mode=0o700)

    def write(self, document: bytes) -> None:
        """Put `config.json` there, at once. Only root can read it inside: the directory is its owner's alone."""
        fresh = self.config / "config.json.new"
        fresh.write_bytes(document)
        fresh.replace(self.document)

    def remove_sockets(self) -> None:
        """Remove the sockets of an agent that has ended: nobody may connect to them before the next one is there."""
        for name in (CONTROL_SOCKET, FORWARD_SOCKET):
            remove_tree(self.link / name)  # whoever is root inside may have made it a directory


def config_document(spec: SandboxSpec, image_env: dict[str, str]) -> bytes:
    """Return what the agent is told. `image_env` is the image's own environment; that of the sandbox outranks it."""
    config = GuestConfig(
        sandbox_id=spec.id,
        hostname=spec.name,
        token=spec.token,
        user=spec.user,
        env=image_env | spec.env,
        files={file.path: ConfigFile(file.content, file.mode) for file in spec.files},
        init=spec.init,
    )
    return msgspec.json.encode(config)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it; nothing happens if there is none. Blocks. Raises `EngineFailure`.

    Not by the standard library, which goes no deeper than it can recurse: what is in there, a container made.
    """
    run_program(["rm", "-rf", "--one-file-system", "--", directory])


class LinkTransport(UnixTransport):
    """The way to the agent's sockets, in the directory `link`, whatever the length of their path.

    Whoever is root in the container can put anything in their place. Only sockets are connected to, and no link is
    followed: it would lead to a socket of the host.
    """

    def __init__(self, link: Path) -> None:
        super().__init__(link / CONTROL_SOCKET, link / FORWARD_SOCKET)

    async def _reach(self, sock: socket.socket, path: Path) -> None:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"{path} is no socket")
            # An address has room for 107 bytes (unix(7)), and a state directory may be deep.
            await super()._reach(sock, Path(f"/proc/self/fd/{descriptor}"))
        finally:
            os.close(descriptor)
