"""Without root: everything but traffic between guests, in a process that really is nobody."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.conformance.engines import settings_for
from tests.conformance.leftovers import traces_of
from tests.privileges import CAN_BECOME_OTHERS

from bhatti.engines.base import Engine

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300)]

NOBODY = 65534
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def nobodys_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of nobody's, below one that everybody may enter."""
    directory = Path(subprocess.check_output(["mktemp", "-d", "/tmp/bhatti-nobody-XXXXXX"], text=True).strip())
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


def as_nobody() -> list[str]:
    """Return the words before a command that take all rights from it; reading our own files stays allowed."""
    if os.geteuid():
        return []
    # The interpreter and the images may be somebody's own: let nobody read, not write, what is there.
    rights = "-all,+dac_read_search"
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*drop, f"--inh-caps={rights}", f"--ambient-caps={rights}", f"--bounding-set={rights}"]


async def test_nobody_creates_uses_and_destroys_a_sandbox(
    engine: Engine, images_dir: Path, nobodys_state: Path
) -> None:
    if not engine.capabilities.rootless:
        pytest.skip("the engine needs root")
    if os.geteuid() == 0 and not CAN_BECOME_OTHERS:
        pytest.skip("nobody may not enter / here")
    arguments = [sys.executable, "-m", "tests.conformance.rootless", engine.name, str(nobodys_state), str(images_dir)]
    done = await anyio.run_process([*as_nobody(), *arguments], check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout)
    assert seen["uid"] != 0
    assert seen["bridge_network"] is False
    assert seen["hostname"] == "rootless"
    assert seen["file"] == "content"
    assert seen["gateway_answers"]
    assert seen["tunnel"].startswith("HTTP/1.0 200")
    assert seen["stranger"] == "auth required"
    assert seen["adopted"] == ["rootless"]
    assert str(await traces_of(settings_for(engine.name, nobodys_state, images_dir))) == "nothing"
