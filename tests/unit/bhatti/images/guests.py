"""Boot the images in QEMU without any engine: what is tested here is the images."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bhatti.images.cmdline import kernel_arguments
from bhatti.images.store import BootFiles

DEADLINE_S = 60
"""Four seconds are usual under emulation; a busy machine may take ten times as long."""


def boot(files: BootFiles, drives: list[Path], *, until: str = "lohar: ready", words: str = "") -> list[str]:
    """Boot `files` with `drives` (in their order as vda, vdb …) and return the console up to a line with `until`.

    The first two drives are read-only, as is the third. The machine is ended then; if it ends by itself, all it said is
    returned. `words` are for the kernel.
    """
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("needs QEMU: apt install qemu-system-x86")
    words += " " + kernel_arguments(
        address="10.0.2.15", gateway="10.0.2.2", netmask="255.255.255.0", hostname="box", emulated=True
    )
    command = [
        qemu, "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none", "-serial", "stdio", "-kernel", str(files.kernel), "-initrd", str(files.initramfs),
        "-append", words, "-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0,romfile=",
    ]  # fmt: skip
    for number, drive in enumerate(drives):
        read_only = "on" if number < 3 else "off"
        command += ["-drive", f"file={drive},if=none,id=d{number},format=raw,readonly={read_only}"]
        command += ["-device", f"virtio-blk-pci,drive=d{number}"]
    console: list[str] = []
    with subprocess.Popen(
        ["timeout", str(DEADLINE_S), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as machine:
        assert machine.stdout is not None
        for line in machine.stdout:
            console.append(line.rstrip())
            if until in line:
                break
        machine.terminate()
    return console
