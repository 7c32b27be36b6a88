"""`engine = "auto"`: Firecracker where it is installed and KVM works, else QEMU.

A directory of sandboxes belongs to one engine, and no other is opened on it while it has any. So what was
chosen is written down, and stays the choice for as long as there is any sandbox, whatever is installed meanwhile.
"""

from dataclasses import dataclass
from pathlib import Path

from bhatti.daemon.settings import Settings
from bhatti.durable import write_durably
from bhatti.engines.base import Finding
from bhatti.errors import Conflict

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
        # From before there was a choice, if nothing is written.
        return Choice(_recorded(state, OTHERWISE), f"the sandboxes in {state} are its")
    for finding in best:
        if finding.level == "failed":
            return Choice(OTHERWISE, f"no {BEST}: {finding.detail}")
    return Choice(BEST, "it is installed and a tiny guest ran with it")


def record(settings: Settings, engine: str) -> None:
    """Write down, durably, whose sandboxes will be in the state directory. Blocks."""
    state = Path(settings.state_dir)
    if _recorded(state, "") != engine:
        write_durably(state / RECORD, f"{engine}\n".encode())


def check(settings: Settings, engine: str) -> None:
    """Raise `Conflict` (code `other-engine`) if another engine's sandboxes are in the state directory. Blocks.

    Whoever went on would show all of them as failed, and leave the processes of those that run to themselves.
    """
    state = Path(settings.state_dir)
    theirs = _recorded(state, engine)
    if theirs != engine and _has_sandboxes(state):
        raise Conflict(
            f"the sandboxes in {state} are those of the engine {theirs}, and engine {engine} was chosen",
            hint=f"set engine = {theirs}, or destroy them with it first; another BHATTI_STATE_DIR can have {engine}",
            code="other-engine",
        )


def _has_sandboxes(state: Path) -> bool:
    try:
        return any((state / "sandboxes").iterdir())
    except FileNotFoundError:
        return False


def _recorded(state: Path, otherwise: str) -> str:
    try:
        return (state / RECORD).read_text().strip() or otherwise
    except FileNotFoundError:
        return otherwise
