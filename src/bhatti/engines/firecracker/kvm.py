"""Whether KVM works, found out by booting a tiny guest with Firecracker; see `engines.qemu.accelerator` for why."""

import json
import re
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from bhatti.engines.qemu import accelerator, probe_guest
from bhatti.engines.qemu.accelerator import PROBE_DEADLINE_S, Verdict
from bhatti.errors import MissingDependency

OTHERWISE = "use the QEMU engine on this host (engine = qemu), or see `bhatti doctor`"

SAY_DONE = bytes.fromhex("b02ae6f4f4ebfd")
"""The tiny guest's last act: a word to QEMU's exit device, which Firecracker does not have."""

DONE = b"\x06"
SAY_SO = b"\x66\xba\xf8\x03\xb0" + DONE + bytes.fromhex("eeb0fee664f4ebfd")
"""In its place: that word to the serial port, and a reset by the keyboard's controller, which makes Firecracker end.
The end alone would prove nothing: a guest that KVM broke, and that faults three times, ends in the same way."""

GUEST_MIB = 32

_STAMP = re.compile(r"^\S+ \[[^]]*\] ")
"""Time, instance and thread, which begin each line of Firecracker's log."""


def need_kvm(binary: str, version: str, cache_dir: Path) -> Verdict:
    """Return the verdict that KVM works with the Firecracker at `binary`. Blocks, for seconds only once a host boot.

    Raises `MissingDependency` with the codes `kvm-missing` (no device, or no permission) and `kvm-broken`.
    """
    obstacle = accelerator.device_obstacle()
    if obstacle is not None:
        raise MissingDependency(f"firecracker needs KVM: {obstacle}", hint=OTHERWISE, code="kvm-missing")
    verdict = accelerator.decide(binary, version, cache_dir, prober=probe)
    if verdict.accelerator != "kvm":
        raise MissingDependency(
            f"firecracker needs KVM, and that of this host does not work: {verdict.reason}",
            hint=OTHERWISE,
            code="kvm-broken",
        )
    return verdict


def probe(binary: str, *, deadline_s: float = PROBE_DEADLINE_S) -> Verdict:
    """Boot the tiny guest and return the verdict: `kvm` if it came to its end, else `tcg` with the reason. Blocks."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bhatti-probe-") as directory:
        kernel, configuration = Path(directory, "guest"), Path(directory, "machine.json")
        kernel.write_bytes(probe_guest.elf(guest_code()))
        machine = {
            "boot-source": {"kernel_image_path": str(kernel), "boot_args": ""},
            "drives": [],
            "machine-config": {"vcpu_count": 1, "mem_size_mib": GUEST_MIB},
        }
        configuration.write_text(json.dumps(machine))
        command = [binary, "--no-api", "--config-file", str(configuration)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            words = f"not finished within {deadline_s:g} s"
        else:
            words = "" if DONE in done.stdout else _words_of((done.stdout + done.stderr).decode(errors="replace"))
    took_ms = (time.monotonic() - begun) * 1000
    if words:
        return Verdict(accelerator="tcg", reason=f"a tiny guest failed with KVM: {words}", probe_ms=took_ms)
    return Verdict(accelerator="kvm", reason=f"a tiny guest ran with KVM in {took_ms:.0f} ms", probe_ms=took_ms)


def guest_code() -> bytes:
    """Return the tiny guest with an end that Firecracker understands."""
    at = probe_guest.CODE.index(SAY_DONE)
    # The code behind its end is where it has to stay, so the new end comes last and is jumped to.
    jump = b"\xe9" + struct.pack("<i", len(probe_guest.CODE) - (at + 5))
    rest = probe_guest.CODE[at + len(SAY_DONE) :]
    return probe_guest.CODE[:at] + jump.ljust(len(SAY_DONE), b"\x90") + rest + SAY_SO


def _words_of(output: str) -> str:
    """Return the line of Firecracker's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("KVM", "rror"):
        for line in lines:
            if mark in line:
                return _STAMP.sub("", line)[:300]
    return _STAMP.sub("", lines[-1])[:300] if lines else "firecracker ended without a word"
