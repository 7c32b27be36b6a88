"""Firecracker in a jail, built by its own jailer: a root directory and a user for each machine.

Theory of operation. The jail's root is a file system in memory, mounted in a mount namespace that is the process' own:
whatever ends the process ends the jail, and nothing is left to be cleaned up, by whom and after whatever (but for its
control groups, if it has limits: see `cgroups`). Into it are
bound, each at the path that it has outside: the machine's directory, which belongs to root, and the files of its image
and volumes. Every relative name that a snapshot may hold is a link in the root, so the same snapshots can be loaded in
a jail and outside. The process owns the files that it writes, and one directory for its socket. Whoever else comes by
on the host is stopped above: machines are in a directory that root alone may enter.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import string
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bhatti.engines.firecracker.settings import AUTO
from bhatti.engines.firecracker.version import PROGRAM, TIMEOUT_S, Firecracker
from bhatti.errors import EngineFailure, MissingDependency
from bhatti.images.programs import propagation

JAILER = "jailer"

BASE = "jail"
"""The empty directory in the machine's own on which the jail's root is mounted; seen from outside it stays empty."""

RUN = "run"
"""The directory in the machine's own that the process may make its socket in."""

VSOCK = "vsock"
"""Likewise the one of the socket for the guest's ports."""

FIRST_USER, USERS = 1_879_048_192, 1 << 16
"""Of the users that nobody gives out: from 0x70000000 on, behind systemd's containers (systemd.io/UIDS-GIDS)."""

COPIED, BROUGHT = "copied", "brought"
"""Snapshots on their way out of the machine's directory and in, as the process reaches nothing beyond it."""

HINT = "install the jailer of the same release beside Firecracker; firecracker.jailer names another, empty for none"

NAMES = (
    tuple(f"vd{letter}" for letter in string.ascii_lowercase)
    + tuple(prefix + name for prefix in ("", f"{COPIED}.", f"{BROUGHT}.") for name in ("state", "ram"))
    + (VSOCK,)
)
"""Every relative name that Firecracker may be told."""

CLONE_NEWNS = 0x20000
"""Of unshare(2); it unshares working directory and umask too (CLONE_FS)."""

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
"""Of mount(2)."""

ROOM = b"mode=0755,size=64m"
"""Of the file system that the root is in (tmpfs(5)): the jailer copies Firecracker into it, some 5 MB."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


@dataclass(frozen=True, slots=True)
class Jailer:
    """The jailer to use, or (empty path) why there is none."""

    path: str
    reason: str = ""


def choose_jailer(wanted: str, program: Firecracker) -> Jailer:
    """Return the jailer `wanted`; with `auto`, the one beside Firecracker or on PATH if it can be used. Blocks.

    Raises `MissingDependency` like `find_jailer`, for one that was named.
    """
    if not wanted:
        return Jailer("", "firecracker.jailer is empty")
    if wanted != AUTO:
        return Jailer(find_jailer(wanted, program.version))
    found = next((path for path in (*map(str, jailers_beside(program.path)), JAILER) if shutil.which(path)), None)
    if found is None:
        return Jailer("", f"there is no jailer beside {Path(program.path).resolve()} or on PATH")
    try:
        return Jailer(find_jailer(found, program.version))
    except MissingDependency as error:
        return Jailer("", error.message)


def jailers_beside(firecracker: str) -> list[Path]:
    """Return where the jailer of a Firecracker can be, the likeliest first; none of them need be there. Blocks."""
    binary = Path(firecracker).resolve()
    # Releases are called firecracker-v1.16.1-x86_64, and their jailers likewise.
    return [binary.with_name(name) for name in (binary.name.replace(PROGRAM, JAILER), JAILER)]


def find_jailer(wanted: str, version: str) -> str:
    """Return the path of the jailer `wanted`, of the Firecracker of `version`. Blocks for some milliseconds.

    Raises `MissingDependency` with the codes `jailer-missing` and `jailer-unfit`: of another version, or not for this
    user or host.
    """
    path = shutil.which(wanted)
    if path is None:
        raise MissingDependency(f"there is no jailer {wanted} that can be run", hint=HINT, code="jailer-missing")
    if os.geteuid() != 0:
        raise MissingDependency("the jailer needs root", hint=HINT, code="jailer-unfit")
    if propagation() == "unchanged":
        raise MissingDependency(
            "the jailer needs a / that it can replace, and here / is no mount point (chroot)",
            hint=HINT,
            code="jailer-unfit",
        )
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingDependency(f"cannot run {path}: {error}", hint=HINT, code="jailer-unfit") from error
    found = re.match(r"Jailer v(\S+)", said)
    if found is None or found[1] != version:
        what = f"of version {found[1]}" if found else "no jailer"
        raise MissingDependency(f"{path} is {what}, and Firecracker is {version}", hint=HINT, code="jailer-unfit")
    return path


def user_of(name: str) -> int:
    """Return the user, and the group, that the machine called `name` runs as."""
    return FIRST_USER + int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big") % USERS


def furnish(directory: Path, user: int, drives: Iterable[tuple[Path, bool]], others: Iterable[Path]) -> None:
    """Let `user` use the machine in `directory`: its drives, with whether they are read-only, and `others`. Blocks."""
    directory.chmod(0o711)
    (directory / BASE).mkdir(mode=0o700, exist_ok=True)
    for name in (RUN, VSOCK):
        (directory / name).mkdir(mode=0o700, exist_ok=True)
        os.chown(directory / name, user, user)
    for path, read_only in drives:
        if read_only:
            _show(path)
        else:
            give(path, user)
    for path in others:
        _show(path)


def abolish(directory: Path) -> None:
    """Remove what says that the machine in `directory` is in a jail, and all sockets of its process. Blocks."""
    for name in (RUN, VSOCK):
        shutil.rmtree(directory / name, ignore_errors=True)


def give(path: Path, user: int) -> None:
    """Let `user` have a file; of one that is not there, Firecracker will say so. Blocks."""
    with suppress(FileNotFoundError):
        os.chown(path, user, user)


def _show(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.chmod(path.stat().st_mode | 0o444)


def root_of(directory: Path, binary: str, name: str) -> Path:
    """Return where the jailer makes the root directory of the machine called `name`."""
    return directory / BASE / Path(binary).resolve().name / name / "root"


def enter(directory: Path, root: Path, files: Iterable[tuple[Path, bool]]) -> None:
    """Give the calling thread, and what it starts, a mount namespace of its own with the jail's root in it. Blocks.

    For a thread that ends then. `files` are what is reached in the jail beside the machine's `directory`, each with
    whether it is read-only. Raises `EngineFailure` (code `jail-failed`).
    """
    try:
        if _libc.unshare(CLONE_NEWNS):
            raise _last_error("unshare")
        os.umask(0o022)
        _mount(None, Path("/"), MS_REC | MS_PRIVATE)
        _mount("bhatti-jail", directory / BASE, 0, kind=b"tmpfs", data=ROOM)
        for path, read_only in ((directory, False), *files):
            target = Path(f"{root}{path}")
            if path.is_dir():
                target.mkdir(parents=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            _mount(path, target, MS_BIND)
            if read_only:
                _mount(None, target, MS_REMOUNT | MS_BIND | MS_RDONLY)
        for name in (*NAMES, RUN):
            (root / name).symlink_to(directory / name)
    except OSError as error:
        raise EngineFailure(
            f"cannot build a machine's jail in {directory}: {error}",
            hint="look into it with `bhatti doctor`; an empty firecracker.jailer starts machines without a jail",
            code="jail-failed",
        ) from error


def _mount(
    source: str | Path | None, target: Path, flags: int, *, kind: bytes | None = None, data: bytes = b""
) -> None:
    """Call mount(2)."""
    if _libc.mount(None if source is None else os.fsencode(source), os.fsencode(target), kind, flags, data):
        raise _last_error(str(target))


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def reached(directory: Path, binary: str, files: Iterable[tuple[Path, bool]]) -> list[tuple[Path, bool]]:
    """Return what has to be bound into the jail: `files`, each with whether it is read-only, and libraries. Blocks."""
    found: dict[Path, bool] = {}
    for path, read_only in (*files, *((path, True) for path in libraries(binary))):
        # What is in the machine's directory is there with it; of what is missing, Firecracker will say so.
        if path.exists() and not path.is_relative_to(directory):
            found.setdefault(path, read_only)
    return list(found.items())


def command_line(
    jailer: str, firecracker: list[str], *, name: str, directory: Path, limits: Iterable[str] = ()
) -> list[str]:
    """Return the program and its arguments that run `firecracker`, a program and `--id` first, in the jail.

    `limits` are arguments of the jailer's (see `cgroups`).
    """
    # The jailer says the name by itself.
    binary, _, _, *arguments = firecracker
    user = str(user_of(name))
    return [
        *(jailer, "--id", name, "--exec-file", binary, "--uid", user, "--gid", user),
        *("--chroot-base-dir", str(directory / BASE), *limits, "--", *arguments),
    ]


@functools.cache
def libraries(binary: str) -> tuple[Path, ...]:
    """Return what the program must have beside it to run: nothing if it is a release, which is linked statically."""
    done = subprocess.run(["/usr/bin/ldd", binary], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return tuple(Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(", done.stdout, re.MULTILINE))
