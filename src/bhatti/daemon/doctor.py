"""`bhatti doctor`: what this machine can do, what it lacks, and the exact line that mends it.

Every check looks at one thing and answers with one line. Nothing is changed, and nothing takes more than a moment.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bhatti.daemon import lock
from bhatti.daemon.settings import Settings
from bhatti.errors import BhattiError
from bhatti.images.store import ImageStore
from bhatti.operations.types import Check, DoctorReport

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where administrators' programs are; not on everybody's PATH."""

LEAST_FREE_MIB = 2048
"""A base image, and room for a few layers."""

Status = Literal["ok", "warning", "failed"]


def examine(settings: Settings) -> DoctorReport:
    """Run every check; blocks for some milliseconds."""
    checks = [check(settings) for check in CHECKS]
    missing: list[str] = []
    for program, package, _ in programs(settings):
        if _which(program) is None and package not in missing:
            missing.append(package)
    checks += [_program_check(*wanted) for wanted in programs(settings)]
    return DoctorReport(ok=all(check.status != "failed" for check in checks), checks=checks, apt=missing)


def programs(settings: Settings) -> list[tuple[str, str, bool]]:
    """Return the programs that are used: name, Debian package, whether nothing works without it."""
    wanted = [
        ("mke2fs", "e2fsprogs", True),
        ("busybox", "busybox-static", False),
        ("mmdebstrap", "mmdebstrap", False),
        ("zstd", "zstd", False),
    ]
    if settings.engine == "qemu":
        wanted.insert(0, (settings.qemu.binary or "qemu-system-x86_64", "qemu-system-x86", True))
        wanted += [("ip", "iproute2", False), ("nft", "nftables", False)]
    return wanted


def _program_check(program: str, package: str, needed: bool) -> Check:
    path = _which(program)
    if path is not None:
        return Check(name=program, status="ok", detail=path)
    status: Status = "failed" if needed else "warning"
    return Check(name=program, status=status, detail="not installed", hint=f"apt-get install {package}")


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def _python(settings: Settings) -> Check:
    return Check(name="python", status="ok", detail=f"{platform.python_version()} ({sys.executable})")


def _kernel(settings: Settings) -> Check:
    return Check(name="kernel", status="ok", detail=f"{platform.system()} {platform.release()} {platform.machine()}")


def _privileges(settings: Settings) -> Check:
    if os.geteuid() == 0:
        return Check(name="privileges", status="ok", detail="root: sandboxes get a bridge and reach each other")
    return Check(
        name="privileges",
        status="warning",
        detail="not root: sandboxes get user-mode network and do not reach each other",
        hint="run the daemon as root for a bridge",
    )


def _memory(settings: Settings) -> Check:
    mib = (os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) >> 20
    status: Status = "ok" if mib >= settings.defaults.memory_mb else "warning"
    hint = None if status == "ok" else "create smaller sandboxes, or end something else"
    return Check(name="memory", status=status, detail=f"{mib} MiB free, {os.cpu_count()} CPUs", hint=hint)


def _disk(settings: Settings) -> Check:
    place = Path(settings.state_dir)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free >> 20
    status: Status = "ok" if free >= LEAST_FREE_MIB else "warning"
    hint = None if status == "ok" else f"free space in {place}: images and layers want {LEAST_FREE_MIB} MiB and more"
    return Check(name="disk", status=status, detail=f"{free} MiB free at {place}", hint=hint)


def _images(settings: Settings) -> Check:
    try:
        images = ImageStore(Path(settings.images_dir)).list()
    except (BhattiError, OSError) as err:
        return Check(name="images", status="failed", detail=str(err), hint="bhatti image build")
    if not images:
        return Check(name="images", status="warning", detail="none built", hint="bhatti image build")
    return Check(name="images", status="ok", detail=", ".join(f"{image.name} ({image.source})" for image in images))


def _daemon(settings: Settings) -> Check:
    pid = lock.holder(settings.lock)
    if pid is None:
        return Check(name="daemon", status="ok", detail="not running; `bhatti run` and `bhatti create` start one")
    return Check(name="daemon", status="ok", detail=f"pid {pid}, {settings.socket}")


CHECKS: tuple[Callable[[Settings], Check], ...] = (_python, _kernel, _privileges, _memory, _disk, _images, _daemon)
"""Beside these, one check for each of `programs`."""
