"""Can this process give machines a bridge network on this host, and if not, why not."""

import os
from dataclasses import dataclass
from pathlib import Path

from bhatti.errors import MissingDependency
from bhatti.net import firewall, tap

CAP_NET_ADMIN = 12
"""The bit of linux/capability.h that making interfaces asks for."""


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether something can be done here, and the reason in words for people."""

    able: bool
    reason: str


def bridge_ability() -> Ability:
    """Return whether taps, bridges and nft can be used by this process."""
    if not _effective_capabilities() >> CAP_NET_ADMIN & 1:
        return Ability(False, "not root: making taps and bridges needs CAP_NET_ADMIN")
    try:
        os.close(os.open(tap.TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Ability(False, f"cannot open {tap.TUN_DEVICE}: {error.strerror}")
    try:
        firewall.find_nft()
    except MissingDependency as error:
        return Ability(False, f"{error.message} ({error.hint})")
    return Ability(True, "root, with taps, bridges and nft")


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
