"""KVM or emulation, decided by booting.

A /dev/kvm that opens is not a KVM that works: nested and software implementations open, answer the version ioctl, and
then run a guest instruction by instruction or fail in the middle of it. So a tiny guest is booted once, with a
deadline, and the verdict is remembered for as long as host boot and QEMU stay the same.
"""

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from bhatti.engines.qemu import probe_guest
from bhatti.errors import InvalidRequest, MissingDependency

Accelerator = Literal["kvm", "tcg"]

PROBE_DEADLINE_S = 8.0
"""Real KVM needs 0.2 s, KVM in an emulated machine 3 s; where KVM does not work it has mostly failed by then."""

KVM_DEVICE = Path("/dev/kvm")
CACHE_FILE = "accelerator.json"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What machines are accelerated with here, and why. `probe_ms` is the time the tiny guest took, 0 if none ran."""

    accelerator: Accelerator
    reason: str
    probe_ms: float = 0.0
    boot_id: str = ""
    qemu_version: str = ""


def decide(
    binary: str, version: str, cache_dir: Path, *, wanted: str = "auto", prober: Callable[[str], Verdict] | None = None
) -> Verdict:
    """Return the accelerator to use. Blocks: 0.2 s the first time after a host boot, up to `PROBE_DEADLINE_S`.

    `wanted` is `auto`, or `kvm` or `tcg` to force one; `prober` boots the tiny guest with `binary` if that is no QEMU.
    Raises `InvalidRequest` (code `bad-accelerator`) for another,
    `MissingDependency` (code `kvm-missing`) if KVM is forced and there is no device.
    """
    if wanted == "tcg":
        return Verdict(accelerator="tcg", reason="set in the settings")
    if wanted == "kvm":
        if (obstacle := device_obstacle()) is not None:
            raise MissingDependency(
                f"the settings force KVM, but {obstacle}", hint="set accelerator to auto", code="kvm-missing"
            )
        return Verdict(accelerator="kvm", reason="set in the settings, not checked")
    if wanted != "auto":
        raise InvalidRequest(
            f"no accelerator is called {wanted!r}", hint="use auto, kvm or tcg", code="bad-accelerator"
        )
    if (obstacle := device_obstacle()) is not None:
        return Verdict(accelerator="tcg", reason=obstacle)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    cached = _read_cache(cache_dir / CACHE_FILE)
    if cached is not None and (cached.boot_id, cached.qemu_version) == (boot_id, version):
        return cached
    verdict = msgspec.structs.replace((prober or probe)(binary), boot_id=boot_id, qemu_version=version)
    cache_dir.mkdir(parents=True, exist_ok=True)
    temporary = cache_dir / f"{CACHE_FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(verdict))
    temporary.replace(cache_dir / CACHE_FILE)
    return verdict


def probe(binary: str, *, accelerator: Accelerator = "kvm", deadline_s: float = PROBE_DEADLINE_S) -> Verdict:
    """Boot the tiny guest with `accelerator` and return the verdict: that one if it came to its end, else `tcg`."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bhatti-probe-") as directory:
        kernel = Path(directory, "guest")
        kernel.write_bytes(probe_guest.elf())
        command = [
            binary,
            *("-machine", f"microvm,accel={accelerator}" if accelerator == "kvm" else "pc,accel=tcg"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-m", "32", "-kernel", str(kernel)),
            *("-device", f"isa-debug-exit,iobase={probe_guest.EXIT_PORT:#x},iosize=1"),
        ]
        status, output = _run(command, deadline_s)
    took_ms = (time.monotonic() - begun) * 1000
    name = accelerator.upper()
    if status == probe_guest.EXIT_STATUS:
        return Verdict(
            accelerator=accelerator, reason=f"a tiny guest ran with {name} in {took_ms:.0f} ms", probe_ms=took_ms
        )
    words = _words_of(output)
    if status is None and not words:
        words = f"not finished within {deadline_s:g} s"
    return Verdict(accelerator="tcg", reason=f"a tiny guest failed with {name}: {words}", probe_ms=took_ms)


def qemu_version(binary: str) -> str:
    """Return the version of QEMU, like `7.2.22`. Blocks; raises `MissingDependency` (code `qemu-missing`)."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingDependency(
            f"cannot run {binary}: {error}", hint="apt install qemu-system-x86", code="qemu-missing"
        ) from error
    found = re.search(r"version (\d+\.\d+\.\d+)", done.stdout)
    if found is None:
        raise MissingDependency(f"{binary} is no QEMU: it says {done.stdout[:80]!r}", code="qemu-missing")
    return found[1]


def _run(command: list[str], deadline_s: float) -> tuple[int | None, str]:
    """Run the tiny guest; return QEMU's exit status, None if it had to be ended, and what it wrote."""
    end = time.monotonic() + deadline_s
    output = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as qemu:
        assert qemu.stderr is not None
        # A guest whose KVM failed stays, for a debugger to look at: its last words are the sign to stop waiting.
        while b"KVM internal error" not in output and (left := end - time.monotonic()) > 0:
            if select.select([qemu.stderr], [], [], left)[0]:
                part = os.read(qemu.stderr.fileno(), 65536)
                if not part:
                    return qemu.wait(), output.decode(errors="replace")
                output += part
        qemu.kill()
        output += qemu.stderr.read()
    return None, output.decode(errors="replace")


def _words_of(output: str) -> str:
    """Return the line of QEMU's output that says what went wrong, or nothing."""
    lines = [line.strip() for line in output.splitlines()]
    for mark in ("emulation failure", "KVM internal error", "failed", "error", "ould not"):
        for line in lines:
            if mark in line:
                return line[:200]
    return ""


def device_obstacle() -> str | None:
    """Return why this process cannot open the device of KVM, or None if it can."""
    if not KVM_DEVICE.exists():
        return f"there is no {KVM_DEVICE}"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return f"{KVM_DEVICE} cannot be opened by this user (group kvm)"
    return None


def _read_cache(path: Path) -> Verdict | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None  # Nothing remembered, or not in our words: the probe will tell.
