"""What this process may do on this host, for tests that need to do it."""

import os
import stat
from pathlib import Path

import pytest

from bhatti.images.programs import propagation


def in_chroot() -> bool:
    """Tell whether "/" is no mount point, so that it cannot be remounted, nor changed by pivot_root(2)."""
    return propagation() == "unchanged"


CAN_BECOME_OTHERS = os.geteuid() == 0 and bool(Path("/").stat().st_mode & stat.S_IXOTH)

AS_OTHERS = pytest.mark.skipif(
    not CAN_BECOME_OTHERS, reason="acts as another user, which needs root, and a / that others may enter"
)
