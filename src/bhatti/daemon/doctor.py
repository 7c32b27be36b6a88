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

from bhatti.daemon import engine, lock
from bhatti.daemon.settings import Settings
from bhatti.errors import BhattiError, CorruptData
from bhatti.images.store import ImageStore
from bhatti.operations.types import Check, DoctorReport
from bhatti.store.database import examined

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where administrators' programs are; not on everybody's PATH."""

PROGRAMS = {"mke2fs": "e2fsprogs", "busybox": "busybox-static", "mmdebstrap": "mmdebstrap", "zstd": "zstd"}
"""What images are made with, and the Debian package of each; the engine knows what it needs itself."""

LEAST_FREE_MIB = 2048
"""A base image, and room for a few layers."""

Status = Literal["ok", "warning", "failed"]


def examine(settings: Settings) -> DoctorReport:
    """Run every check; blocks for some milliseconds."""
    checks = [check(settings) for check in CHECKS]
    checks += [_program(program) for program in PROGRAMS]
    checks += _engine(settings)
    missing = [package for program, package in PROGRAMS.items() if _which(program) is None]
    missing += [hint.split()[-1] for check in checks if (hint := check.hint or "").startswith("apt install ")]
    return DoctorReport(
        ok=all(check.status != "failed" for check in checks),
        checks=checks,
        apt=sorted(set(missing)),
    )


def _engine(settings: Settings) -> list[Check]:
    try:
        findings = engine.examine(settings)
    except BhattiError as err:
        return [Check(name="engine", status="failed", detail=err.message, hint=err.hint)]
    return [Check(name=f.name, status=f.level, detail=f.detail, hint=f.hint) for f in findings]


def _program(program: str) -> Check:
    path = _which(program)
    if path is not None:
        return Check(name=program, status="ok", detail=path)
    return Check(name=program, status="failed", detail="not installed", hint=f"apt install {PROGRAMS[program]}")


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


def _store(settings: Settings) -> Check:
    try:
        if not settings.database.exists():
            return Check(name="store", status="ok", detail=f"{settings.database}: not there yet")
        examined(settings.database)
    except OSError as err:
        return Check(name="store", status="warning", detail=f"{settings.database}: {err.strerror}", hint="ask as root")
    except CorruptData as err:
        return Check(name="store", status="failed", detail=err.message, hint=err.hint)
    except BhattiError as err:
        return Check(name="store", status="warning", detail=err.message, hint=err.hint)
    return Check(name="store", status="ok", detail=str(settings.database))


def _daemon(settings: Settings) -> Check:
    pid = lock.holder(settings.lock)
    if pid is None:
        return Check(name="daemon", status="ok", detail="not running; `bhatti run` and `bhatti create` start one")
    return Check(name="daemon", status="ok", detail=f"pid {pid}, {settings.socket}")


CHECKS: tuple[Callable[[Settings], Check], ...] = (
    _python,
    _kernel,
    _privileges,
    _memory,
    _disk,
    _images,
    _store,
    _daemon,
)
"""Beside these, one check for each of `PROGRAMS`, and what the engine finds."""
