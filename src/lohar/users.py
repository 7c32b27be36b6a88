"""Accounts of the guest, read from its own /etc/passwd and /etc/group.

Not through the C library: the agent brings one of its own, and the guest's nsswitch.conf may name modules made for
another one.
"""

from __future__ import annotations

import os

from lohar.config import WORKSPACE
from lohar.wire.fields import items, number, text
from lohar.wire.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.config import AgentConfig

SHELLS = ("/bin/bash", "/bin/sh")


class User(Record):
    """One account; `groups` holds the ids of all its groups, the primary one first."""

    name: str = text()
    uid: int = number()
    gid: int = number()
    home: str = text()
    shell: str = text()
    groups: tuple[int, ...] = items(number())


def find_user(name: str, *, root: str = "/") -> User | None:
    """Return the account `name` (or of that numeric uid) below `root`, or None."""
    for fields in _records(os.path.join(root, "etc/passwd"), 7):
        if name in (fields[0], fields[2]) and fields[2].isdigit() and fields[3].isdigit():
            uid, gid = int(fields[2]), int(fields[3])
            return User(
                name=fields[0],
                uid=uid,
                gid=gid,
                home=fields[5] or "/",
                shell=fields[6] or "/bin/sh",
                groups=_groups(fields[0], gid, root),
            )
    if name in ("root", "0"):
        # An image of a single program may have no accounts at all; root needs none to be root.
        return User(name="root", uid=0, gid=0, home="/", shell=SHELLS[-1], groups=(0,))
    return None


def resolve(config: AgentConfig, *, root: str = "/") -> AgentConfig:
    """Return `config` with the account that its `user` names, made first if the image has none such.

    An imported image knows nothing of our user; the account then appears in the sandbox's own layer, without a
    password, and the image stays as it is.
    """
    user = find_user(config.user, root=root)
    if user is None:
        user = _add_user(config.user, config.uid, root)
    workspace = os.path.isdir(os.path.join(root, WORKSPACE.lstrip("/")))
    return config.replace(
        user=user.name, uid=user.uid, gid=user.gid, home=user.home, cwd=WORKSPACE if workspace else user.home
    )


def _add_user(name: str, uid: int, root: str) -> User:
    home = f"/home/{name}"
    shell = next((path for path in SHELLS if os.path.exists(os.path.join(root, path[1:]))), "/bin/sh")
    etc = os.path.join(root, "etc")
    os.makedirs(etc, exist_ok=True)
    _append(os.path.join(etc, "passwd"), f"{name}:x:{uid}:{uid}::{home}:{shell}\n")
    _append(os.path.join(etc, "group"), f"{name}:x:{uid}:\n")
    inside = os.path.join(root, home[1:])
    if not os.path.isdir(inside):
        os.makedirs(inside)
        os.chown(inside, uid, uid)
    return User(name=name, uid=uid, gid=uid, home=home, shell=shell, groups=(uid,))


def _append(path: str, line: str) -> None:
    """Add a line to a table, after making sure that the last one is complete."""
    with open(path, "a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in (b"", b"\n"):
            file.write(b"\n")
        file.write(line.encode())


def _groups(name: str, gid: int, root: str) -> tuple[int, ...]:
    others = {
        int(fields[2])
        for fields in _records(os.path.join(root, "etc/group"), 4)
        if fields[2].isdigit() and name in fields[3].split(",")
    }
    return (gid, *sorted(others - {gid}))


def _records(path: str, fields: int) -> list[list[str]]:
    """Return the complete records of a colon-separated table; a missing table is an empty one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            records = [line.rstrip("\n").split(":") for line in file]
    except FileNotFoundError:
        return []
    return [record for record in records if len(record) == fields]
