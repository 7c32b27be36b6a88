"""`engine = "auto"`: Firecracker where it is installed and KVM works, else QEMU.

A directory of sandboxes belongs to one engine. So what was chosen is written down, and stays the choice for as long as
there is any sandbox, whatever is installed meanwhile.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from bhatti.daemon.settings import Settings
from bhatti.engines.base import Finding

AUTO = "auto"
BEST, OTHERWISE = "firecracker", "qemu"

RECORD = "engine"
"""The file in the state directory that has the name of the engine whose sandboxes are there."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, and why it is that one."""

    engine: str
    reason: str


def choose(settings: Settings, best: list[Finding]) -> Choice:
    """Return the engine to use; `best` is what Firecracker finds on this host. Blocks for a moment."""
    state = Path(settings.state_dir)
    if _has_sandboxes(state):
        return Choice(_recorded(state), f"the sandboxes in {state} are its")
    for finding in best:
        if finding.level == "failed":
            return Choice(OTHERWISE, f"no {BEST}: {finding.detail}")
    return Choice(BEST, "it is installed and a tiny guest ran with it")


def record(settings: Settings, engine: str) -> None:
    """Write down whose sandboxes will be in the state directory. Blocks."""
    path = Path(settings.state_dir) / RECORD
    temporary = path.with_name(f"{RECORD}.{os.getpid()}")
    temporary.write_text(f"{engine}\n")
    temporary.replace(path)


def _has_sandboxes(state: Path) -> bool:
    try:
        return any((state / "sandboxes").iterdir())
    except FileNotFoundError:
        return False


def _recorded(state: Path) -> str:
    try:
        return (state / RECORD).read_text().strip() or OTHERWISE
    except FileNotFoundError:
        return OTHERWISE  # from before there was a choice
