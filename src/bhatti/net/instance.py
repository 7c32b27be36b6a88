"""Names that tell one daemon's network objects from another's.

Several daemons may run on one machine, each with its own state directory (every test has one). Kernel objects are
global, so their names derive from an *instance*: a short digest of where the state lives. A sweep can then tell ours
from others', and two daemons never touch each other's.
"""

import hashlib
from pathlib import Path

IFNAMSIZ = 16
"""Longest interface name with its terminating NUL: linux/if.h."""


def instance_of(state_dir: Path) -> str:
    """Return 8 hexadecimal digits that stand for the daemon that keeps its state in `state_dir`."""
    return hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]


def bridge_name(instance: str, owner: str = "", *, prefix: str = "bhb") -> str:
    """Return the name of the bridge of `instance` for an owner's machines: `bhb` and 8 digits, or 12 with an owner.

    Bridges that others make for us have another `prefix`, of three letters.
    """
    if not owner:
        return f"{prefix}{instance}"
    digest = hashlib.sha256(f"{instance}/{owner}".encode()).hexdigest()
    return f"{prefix}{digest[: IFNAMSIZ - 1 - len(prefix)]}"


def bridge_alias(instance: str) -> str:
    """Return what `ip link` shows as alias of a bridge: whose it is, for people and for the sweep."""
    return f"bhatti-bridge {instance}"


def table_name(instance: str) -> str:
    """Return the name of the nft table of `instance`."""
    return f"bhatti_{instance}"


def tap_name(instance: str, sandbox_id: str) -> str:
    """Return the name of the tap of a sandbox: `bht` and 12 digits, which is all that fits.

    48 bits of a digest: among a million sandboxes of one machine two would share a name once in 500 times, and ids
    live one at a time, far fewer than a million of them.
    """
    digest = hashlib.sha256(f"{instance}/{sandbox_id}".encode()).hexdigest()
    return f"bht{digest[: IFNAMSIZ - 1 - 3]}"


def alias(instance: str, sandbox_id: str) -> str:
    """Return what `ip link` shows as alias of a tap: whose it is, in full, for people and for the sweep."""
    return f"bhatti {instance} {sandbox_id}"


def sandbox_of(interface_alias: str, instance: str) -> str | None:
    """Return the sandbox id in an alias made by `alias` for the same instance, else None."""
    prefix = f"bhatti {instance} "
    return interface_alias[len(prefix) :] if interface_alias.startswith(prefix) else None
