"""The agent as a directory of the host, for containers to mount: unpacked from the agent drive, once for each version.

AGENTS/<first 16 digits of the drive's sha256>/      complete when it exists
AGENTS/.new-*                                        being unpacked
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path

from bhatti.engines.docker.archive import walk
from bhatti.engines.docker.ext4 import Ext4, kind_of
from bhatti.images.store import BootFiles

DIGEST_DIGITS = 16


def agent_version(boot: BootFiles) -> str:
    """Return the name of the directory that the agent of `boot` is unpacked in."""
    return boot.digests["agent"][:DIGEST_DIGITS]


def unpack_agent(boot: BootFiles, agents: Path) -> Path:
    """Return the directory with the agent of `boot`, unpacked if nobody has before. Blocks, half a second if it must.

    Several may do this at once: the first to be ready is taken. Raises `CorruptData`, `OSError`.
    """
    target = agents / agent_version(boot)
    if target.is_dir():
        return target
    agents.mkdir(mode=0o755, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=agents, prefix=".new-"))
    try:
        _unpack(boot.agent, staging)
        staging.chmod(0o755)
        try:
            staging.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def sweep_agents(agents: Path, keep: Set[str]) -> list[str]:
    """Remove all unpacked agents but those in `keep`, and what was left half unpacked; return their names. Blocks."""
    swept = [path for path in _directories(agents) if path.name not in keep]
    for path in swept:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in swept]


def _directories(parent: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in parent.iterdir() if path.is_dir())
    except FileNotFoundError:
        return


def _unpack(drive: Path, into: Path) -> None:
    with Ext4(drive) as image:
        for name, inode in walk(image):
            path = into / os.fsdecode(name)
            match kind_of(inode):
                case stat.S_IFDIR:
                    path.mkdir(mode=0o755)
                case stat.S_IFREG:
                    with path.open("wb") as file:
                        file.writelines(image.content(inode))
                    # Readable by all: with user namespaces, root of the container is not root of the host.
                    path.chmod(0o755 if inode.mode & 0o111 else 0o644)
                case stat.S_IFLNK:
                    path.symlink_to(os.fsdecode(image.link_target(inode)))
                case _:
                    continue
