"""Which Firecracker there is, and whether it is one that sandboxes can be trusted to."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bhatti.errors import MissingDependency

PROGRAM = "firecracker"

OLDEST = (1, 15)
"""Before 1.15, diff snapshots of machines with more than 3 GiB of memory came out corrupt."""

QUIET_BEFORE = (1, 16)
"""Before 1.16, the console of a guest that was saved while it wrote there stays silent (its CHANGELOG, #5764), and our
only sign that a guest has switched itself off is what it says there."""

INSTALL = "install a release of Firecracker 1.15 or newer, and set firecracker.binary if it is not on PATH"

TIMEOUT_S = 20.0
"""It answers in 5 ms; on a host that is starting ten machines, some seconds."""


@dataclass(frozen=True, slots=True)
class Firecracker:
    """A program that was found to be a Firecracker that can be used.

    `snapshot_format` is the version of the snapshots that it writes, MAJOR.MINOR.PATCH; empty if it does not tell.
    """

    path: str
    version: str
    snapshot_format: str = ""


def find_firecracker(wanted: str = "") -> Firecracker:
    """Return the Firecracker at `wanted`, or the one on PATH. Blocks for some milliseconds.

    Raises `MissingDependency` with the codes `firecracker-missing`, `firecracker-forbidden` (it is there but cannot be
    run), `firecracker-unknown` (it is none) and `firecracker-too-old`.
    """
    path = _locate(wanted)
    version = checked_version(path, _asked(path, "--version"))
    # Its farewell to the log comes behind.
    found = re.match(r"v(\d+\.\d+\.\d+)\s", _asked(path, "--snapshot-version"))
    return Firecracker(path, version, found[1] if found else "")


def shortcoming(version: str) -> str | None:
    """Return what is known to be wrong with a version that can be used, or None."""
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) < QUIET_BEFORE:
        return "after a restore a guest's console may stay silent, and its own end unnoticed (mended in 1.16)"
    return None


def _asked(path: str, question: str) -> str:
    try:
        done = subprocess.run(
            [path, question], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingDependency(f"cannot run {path}: {error}", hint=INSTALL, code="firecracker-unknown") from error
    return done.stdout


def checked_version(path: str, printed: str) -> str:
    """Return the version in what `--version` of the program at `path` printed.

    Raises `MissingDependency` (codes `firecracker-unknown`, `firecracker-too-old`).
    """
    found = re.match(r"Firecracker v((\d+)\.(\d+)\.\d+\S*)", printed)
    if found is None:
        said = printed.strip().splitlines()[:1]
        raise MissingDependency(
            f"{path} is no Firecracker: asked for its version, it says {(said or [''])[0][:80]!r}",
            hint=INSTALL,
            code="firecracker-unknown",
        )
    if (int(found[2]), int(found[3])) < OLDEST:
        raise MissingDependency(
            f"{path} is Firecracker {found[1]}; before {OLDEST[0]}.{OLDEST[1]} it wrote corrupt snapshots of machines "
            "with more than 3 GiB of memory",
            hint=INSTALL,
            code="firecracker-too-old",
        )
    return found[1]


def _locate(wanted: str) -> str:
    path = shutil.which(wanted or PROGRAM)
    if path is not None:
        return path
    if wanted and Path(wanted).exists():
        raise MissingDependency(
            f"{wanted} cannot be executed by this user",
            hint="make it executable (chmod +x), or name another one in firecracker.binary",
            code="firecracker-forbidden",
        )
    raise MissingDependency(f"the program {wanted or PROGRAM} is not there", hint=INSTALL, code="firecracker-missing")
