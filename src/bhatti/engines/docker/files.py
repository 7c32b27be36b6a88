"""The files of one container on the host: their names, how they are made, and how they go.

SANDBOXES/ID/container.json   the record
SANDBOXES/ID/config/          mounted read-only in the container: what the agent is told
SANDBOXES/ID/link/            mounted in the container: the agent makes its sockets there
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhatti.guestlink.transports import UnixTransport
from bhatti.images.config_drive import ConfigFile, GuestConfig
from bhatti.model.sandbox import SandboxSpec
from bhatti.paths import MAX_SOCKET_PATH_BYTES

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
            (self.link / name).unlink(missing_ok=True)


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
    """Remove a directory and all in it. Nothing happens if there is none."""
    shutil.rmtree(directory, ignore_errors=False, onerror=_ignore_missing)


class LinkTransport(UnixTransport):
    """The way to the agent's sockets, whatever the length of their path.

    An address has room for 107 bytes (unix(7)), and a state directory may be deep. The directory is held open then, and
    the sockets are reached through /proc/self/fd.
    """

    def __init__(self, link: Path) -> None:
        self._descriptor = -1
        self._link = link
        reached = link
        if len(os.fsencode(link / CONTROL_SOCKET)) > MAX_SOCKET_PATH_BYTES:
            self._descriptor = os.open(link, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            reached = Path(f"/proc/self/fd/{self._descriptor}")
        super().__init__(reached / CONTROL_SOCKET, reached / FORWARD_SOCKET)

    def close(self) -> None:
        """Let go of the directory. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __str__(self) -> str:
        return f"unix:{self._link / CONTROL_SOCKET}"


def _ignore_missing(function: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
