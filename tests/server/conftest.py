from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import Daemon, daemon


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """A daemon whose machines are processes of the host, and which raises where its event loop would block."""
    with daemon(BHATTI_DETECT_BLOCKING="true") as found:
        yield found


@pytest.fixture(scope="module")
def virtual(images_dir: Path) -> Iterator[Daemon]:
    """A daemon whose machines are virtual, with one sandbox, called `one`."""
    with daemon(engine="qemu", BHATTI_IMAGES_DIR=str(images_dir), BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        found.out("create", "one", "--memory", "256", "--env", "GREETING=hello there")
        yield found
