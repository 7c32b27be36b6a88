"""`bhatti file cp`, to and from an agent on this machine. `python -m bench.files [--json]`.

The floor is the agent itself: the same gigabyte through `GuestLink`, without daemon, HTTP or a second process, to and
from the same disk. Directories are measured by the file.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from bench.cli import command, run
from bench.measure import Row, report, row, take_turns
from tests.daemons import Daemon, daemon

from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport

SIZE = 1 << 30
PIECE = 1 << 20
FILES = 10_000
FILE_BYTES = 1024
ROUNDS = 3

BANDWIDTH = 0.5
"""Of the agent's own, for the whole command."""

FILES_PER_SECOND = 2000.0


def rows() -> list[Row]:
    """Measure everything in one run."""
    with daemon() as served:
        served.out("create", "one")
        return [*large(served), *many(served)]


def large(served: Daemon) -> list[Row]:
    """Measure one file of a gigabyte, both ways."""
    here, there, back, part = (served.directory / name for name in ("large", "there", "back", "part"))
    with here.open("wb") as file:
        piece = os.urandom(PIECE)
        file.writelines(piece for _ in range(SIZE // PIECE))
    (machine,) = served.machines()
    sockets = served.directory / "m" / machine

    async def upload() -> None:
        async with GuestLink(UnixTransport(sockets / "c", sockets / "f")) as link:
            await link.write_file(str(there), _pieces(here), size=SIZE)

    async def download() -> None:
        async with GuestLink(UnixTransport(sockets / "c", sockets / "f")) as link:
            # To a new file, like the command: overwriting takes no new pages, which may cost more than the copy.
            with part.open("wb") as file:
                async with link.open_read(str(there)) as content:
                    async for data in content.chunks():
                        file.write(data)
            part.rename(back)

    cases = {
        "agent: upload 1 GiB": upload,
        "bhatti file cp 1 GiB to a sandbox": lambda: run(served, *command("file", "cp", str(here), f"one:{there}")),
        "agent: download 1 GiB": download,
        "bhatti file cp 1 GiB from one": lambda: run(served, *command("file", "cp", f"one:{there}", str(back))),
    }
    seconds = asyncio.run(take_turns(cases, ROUNDS, warm_up=0))
    found: list[Row] = []
    for name, measured in seconds.items():
        floor = found[-1] if len(found) % 2 else None
        target = None if floor is None else BANDWIDTH
        found.append(row(name, measured, floor=floor, target=target, amount=SIZE / 1e6, rate_unit="MB"))
    for path in (here, there, back):
        path.unlink()
    return found


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def many(served: Daemon) -> list[Row]:
    """Measure a directory of small files, both ways, each time to where nothing is."""
    here, there, back = (served.directory / name for name in ("here", "there", "back"))
    here.mkdir()
    for number in range(FILES):
        folder = here / f"{number % 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(os.urandom(FILE_BYTES))

    def send() -> None:
        shutil.rmtree(there, ignore_errors=True)
        run(served, *command("file", "cp", str(here), f"one:{there}"))

    def fetch() -> None:
        shutil.rmtree(back, ignore_errors=True)
        run(served, *command("file", "cp", f"one:{there}", str(back)))

    cases = {"bhatti file cp 10,000 files to a sandbox": send, "bhatti file cp 10,000 files from one": fetch}
    seconds = asyncio.run(take_turns(cases, ROUNDS, warm_up=0))
    return [
        row(name, measured, target=FILES_PER_SECOND, amount=float(FILES), rate_unit="files")
        for name, measured in seconds.items()
    ]


if __name__ == "__main__":
    report("Files in and out of a sandbox", rows())
