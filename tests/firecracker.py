"""The real Firecracker for tests, wherever there is one."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.privileges import in_chroot

from bhatti.engines.firecracker import cgroups, kvm
from bhatti.engines.firecracker.api import FirecrackerApi
from bhatti.engines.qemu.process import VmProcess, identify
from bhatti.errors import MissingDependency

VARIABLE = "BHATTI_FIRECRACKER"


def need_firecracker() -> str:
    """Return the path of Firecracker; skip the test, saying so, where there is none."""
    found = shutil.which(os.environ.get(VARIABLE) or "firecracker")
    if found is None:
        pytest.skip(f"needs Firecracker: on PATH, or named by {VARIABLE}")
    return found


def need_jailer(firecracker: str) -> str:
    """Return the path of the jailer beside Firecracker or on PATH; skip the test, saying so, unless it can be used."""
    found = shutil.which(Path(firecracker).resolve().with_name("jailer")) or shutil.which("jailer")
    if found is None:
        pytest.skip("needs Firecracker's jailer, beside it or on PATH")
    if os.geteuid() != 0 or in_chroot():
        pytest.skip("needs root, and a / that pivot_root(2) can replace")
    return found


def need_groups() -> cgroups.Groups:
    """Return the control groups of this host; skip the test, saying so, where no limits can be set."""
    try:
        return cgroups.find_groups()
    except MissingDependency as error:
        pytest.skip(f"needs control groups: {error.message}")


def need_working_firecracker() -> str:
    """Return the path of Firecracker; skip the test, saying so, unless it can run a guest on this host."""
    binary = need_firecracker()
    verdict = kvm.probe(binary, deadline_s=60)
    if verdict.accelerator != "kvm":
        pytest.skip(f"needs a KVM that works: {verdict.reason}")
    return binary


@asynccontextmanager
async def running(binary: str, directory: Path) -> AsyncIterator[tuple[VmProcess, FirecrackerApi]]:
    """Run a Firecracker that has been told nothing, with its socket in `directory`; it ends with the block."""
    command = ["/usr/bin/env", "-C", str(directory), binary, "--id", "test", "--api-sock", "api.sock", "--enable-pci"]
    process = await VmProcess.spawn(command, log=directory / "output")
    try:
        api = FirecrackerApi(directory / "api.sock")
        await api.wait_ready(timeout_s=60)
        yield process, api
    finally:
        await process.end()
        assert identify(process.identity.pid) is None
