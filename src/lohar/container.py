"""The agent as the init of a container.

What a machine needs at boot (file systems, network, name) a container finds done by its engine. Left is what only the
inside can do: the account, the injected files, the volumes' owner; then to serve on two unix sockets in a directory
that the host has too, and to be the init of everything else: reap, and end when told to.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

from lohar import boot, machine, users
from lohar.config import MAX_CONFIG_BYTES, ConfigError, parse
from lohar.server import serve
from lohar.testmode import raise_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lohar.config import AgentConfig

BACKLOG = 512
"""The connection limit: a burst is answered rather than refused."""

FOR_ANYBODY = 0o111
"""The umask that lets all users connect: the host's daemon may be any. The directory keeps others out, and the token.
Not chmod(2) afterwards, which gVisor refuses, as it refuses to rename a socket that the host has too."""


def main() -> None:
    """Run with the command line `CONFIG CONTROL FORWARD [VOLUME...]` and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; return the exit status.

    `arguments` are the paths of `config.json`, of the two sockets to make, and the mount points of writable volumes.
    """
    if os.getpid() != 1:
        # Its end is the end of every process it can see.
        print("lohar: not the init of a container: refusing to act as one", file=sys.stderr)
        return 1
    if len(arguments) < 3:
        print("lohar: a container's agent is told the paths of its configuration and sockets", file=sys.stderr)
        return 2
    config_path, control_path, forward_path, *volumes = arguments
    try:
        config = prepare(config_path, volumes)
        # The control socket last: whoever sees it may expect the other one.
        forward = listen(forward_path)
        control = listen(control_path)
        raise_limits()
    except (OSError, ConfigError) as error:
        print(f"lohar: boot failed: {error}", flush=True)
        return 1
    serve(config, [control], [forward], ready=lambda: print(f"{boot.READY}{{}}", flush=True))
    return 0


def prepare(config_path: str, volumes: Sequence[str] = (), *, root: str = "/") -> AgentConfig:
    """Put in place what the configuration asks for and return it, its account resolved. `root` is for tests.

    Raises `OSError`, `ConfigError`.
    """
    with open(config_path, "rb") as file:
        config = parse(file.read(MAX_CONFIG_BYTES))
    take_name(config.hostname, root=root)
    machine.ensure_machine_id(root=root)
    config = users.resolve(config, root=root)
    for volume in volumes:
        os.chown(os.path.join(root, volume.lstrip("/")), config.uid, config.gid)
    boot.inject_once(config, root=root)
    os.chdir(root)
    os.umask(0o022)
    return config


def take_name(hostname: str, *, root: str = "/") -> None:
    """Have /etc/hostname and /etc/hosts say `hostname`: a container may have been made before it had a sandbox.

    They are written in place, because they are mounts, which cannot be replaced.
    """
    folder = os.path.join(root, "etc")
    try:
        with open(f"{folder}/hostname", encoding="utf-8", errors="replace") as file:
            before = file.read().strip()
    except FileNotFoundError:
        return
    if before in ("", hostname):
        return
    for name in ("hostname", "hosts"):
        with suppress(FileNotFoundError), open(f"{folder}/{name}", "r+", encoding="utf-8", errors="replace") as file:
            lines = [_renamed(line, before, hostname) for line in file]
            file.seek(0)
            file.truncate()
            file.writelines(lines)


def _renamed(line: str, before: str, now: str) -> str:
    words = line.rstrip("\n").split("\t")
    return "\t".join([now if word == before else word for word in words]) + "\n"


def listen(path: str) -> socket.socket:
    """Listen on a unix socket at `path`, in the place of an earlier agent's."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(FOR_ANYBODY)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(BACKLOG)
    return sock
