"""docs/quickstart.md, run by somebody who does what it says, in real virtual machines."""

import fnmatch
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.daemons import ROOT, Daemon, daemon

from bhatti import paths
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
MARK = "-- that was step"


@pytest.fixture
def person() -> Iterator[Daemon]:
    images = Path(paths.images_dir())
    ImageStore(images).build()
    # The port of the page may be somebody else's.
    with daemon(engine="qemu", BHATTI_IMAGES_DIR=str(images), BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        programs = found.directory / "bin"
        programs.mkdir()
        (programs / "bhatti").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bhatti "$@"\n')
        (programs / "bhatti").chmod(0o755)
        found.env["PATH"] = f"{programs}:{found.env['PATH']}"
        yield found


def steps() -> list[tuple[str, list[str]]]:
    """What is typed, and the lines that are shown after it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def test_everything_on_the_page_works_and_says_what_it_says_there(person: Daemon) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]  # 8080 may be somebody else's
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in steps()).replace("8080", str(port))
    done = subprocess.run(
        ["bash", "-e", "-c", script], env=person.env, cwd=person.directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.split(f"{MARK}\n")[:-1]
    assert len(said) == len(steps()) >= 12
    for (command, shown), text in zip(steps(), said, strict=True):
        lines = [line for line in text.splitlines() if ":8000" not in line]  # what `forward` says comes at any time
        assert len(lines) == len(shown), (command, text)
        for line, pattern in zip(lines, shown, strict=True):
            assert fnmatch.fnmatchcase(line, pattern.replace("…", "*")), (command, line)


def test_every_page_it_leads_to_is_there() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "quickstart.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), (page, link)
