"""Run the system's programs that images are made with, and turn their failures into our errors."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from bhatti.errors import EngineFailure, MissingDependency, OutOfSpace

PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "dumpe2fs": "e2fsprogs",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "resize2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "tune2fs": "e2fsprogs",
    "unshare": "util-linux",
    "zstd": "zstd",
}
"""Debian package of each program that is used here, for the hints."""

_ADMIN_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where mke2fs lives; not on an ordinary user's PATH."""

_NO_SPACE = ("No space left on device", "not enough free space", "don't have enough free space")
_NO_NETWORK = ("Failed to fetch", "Temporary failure resolving", "Could not connect", "Unable to connect")


def find_program(name: str) -> str:
    """Return the path of the program `name`, or raise `MissingDependency` naming its Debian package."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_ADMIN_DIRECTORIES}")
    if path is None:
        package = PACKAGES.get(name, name)
        raise MissingDependency(
            f"the program {name!r} is not installed on this host", hint=f"install it: apt-get install {package}"
        )
    return path


def run_program(
    argv: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    held_lock: int | None = None,
    contained: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end and return what it wrote on standard output.

    The program gets the C locale and no standard input. `env` is added to the environment. A builder passes its
    lock's descriptor as `held_lock`: the program inherits it, so that if the builder is killed the lock stays taken
    until its children are gone too, and nobody works in the same place as an orphan. With `contained`, which needs
    root, the program and all that it starts and mounts are gone with the builder, at once. `on_line` is called with
    each line of standard error as it comes. Raises `MissingDependency`, `OutOfSpace`, or `EngineFailure` with the last
    lines of what the program said (code `download-failed` when the cause is the network).
    """
    program = find_program(str(argv[0]))
    command = [program, *map(str, argv[1:])]
    if contained:
        # A PID namespace: when its first process is killed, which unshare sees to, the kernel kills all the others.
        # A mount namespace: what they mounted goes with them; nobody must meet a /proc in what is left to be swept.
        spaces = ["--pid", "--fork", "--kill-child", "--mount", f"--propagation={propagation()}"]
        command = [find_program("unshare"), *spaces, "--", *command]
    if held_lock is not None or contained:
        command = [find_program("setpriv"), "--pdeathsig", "KILL", "--", *command]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
        cwd=cwd,
        env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"} | (env or {}),
        pass_fds=() if held_lock is None else (held_lock,),
        text=True,
        errors="replace",
    )
    with process:
        try:
            output, complaints = _read(process, on_line)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise failure(Path(program).name, process.returncode, complaints)
    return output


def propagation() -> str:
    """Return how a new mount namespace can be had: private, but in a chroot "/" is no mount that could be made so."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return "private" if any(line.split()[4] == "/" for line in mounts.splitlines()) else "unchanged"


def _read(process: "subprocess.Popen[str]", on_line: Callable[[str], None] | None) -> tuple[str, str]:
    """Return standard output and complaints; with `on_line` both come through one pipe, so as to block on neither."""
    if on_line is None:
        return process.communicate()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        on_line(line.rstrip())
    said = "".join(lines)
    return said, said


def failure(program: str, returncode: int, complaints: str) -> Exception:
    """Return the error that `program`'s exit status and last words amount to."""
    tail = "\n".join(complaints.strip().splitlines()[-8:]) or f"exit status {returncode}"
    if any(text in complaints for text in _NO_SPACE):
        return OutOfSpace(f"{program} ran out of disk space: {tail}", hint="free some space and run the same again")
    if any(text in complaints for text in _NO_NETWORK):
        return EngineFailure(
            f"{program} could not download: {tail}",
            hint="check the network and the apt sources of this host (apt-get update), then run the same again",
            code="download-failed",
        )
    return EngineFailure(
        f"{program} failed with exit status {returncode}: {tail}",
        hint="run the same again; finished parts are kept",
        code="image-build-failed",
    )
