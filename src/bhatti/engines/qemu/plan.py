"""From what was asked for to the machine that QEMU is told to be."""

from pathlib import Path

from bhatti.engines.qemu.command import Drive, Hardware
from bhatti.engines.qemu.files import MachineFiles
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.network import Plug
from bhatti.engines.qemu.record import Frame
from bhatti.images.cmdline import kernel_arguments
from bhatti.images.store import BootFiles
from bhatti.model.sandbox import SandboxSpec

STATE_MIB = 64
"""What a saved state may have beyond the machine's memory: the devices, and 9 bytes for each page."""


def machine_name(body: str) -> str:
    """Return the name that QEMU and its monitor have for a machine."""
    return f"bhatti-{body}"


def plan_hardware(
    host: QemuHost, spec: SandboxSpec, files: MachineFiles, boot: BootFiles, volumes: list[Path], plug: Plug
) -> Hardware:
    """Return the machine for `spec`; `volumes` are the files of its volumes in the same order."""
    emulated = host.verdict.accelerator == "tcg"
    return Hardware(
        binary=host.binary,
        name=machine_name(files.directory.name),
        accelerator=host.verdict.accelerator,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        memory_file=files.memory,
        kernel=boot.kernel,
        initramfs=boot.initramfs,
        kernel_arguments=kernel_arguments(
            address=str(plug.address),
            gateway=str(plug.gateway),
            netmask=str(plug.netmask),
            hostname=spec.name,
            dns=plug.dns,
            emulated=emulated,
        ),
        # The guest's side knows them by this order: image, agent, config, layer, volumes.
        drives=(
            Drive(boot.base, True),
            Drive(boot.agent, True),
            Drive(files.config, True),
            Drive(files.layer, False),
            *(Drive(path, volume.read_only) for path, volume in zip(volumes, spec.volumes, strict=True)),
        ),
        card=plug.card,
        console=files.console,
    )


def frame_of(hardware: Hardware) -> Frame:
    """Return what must be remembered of a machine to make the same one again."""
    return Frame(
        kernel=str(hardware.kernel),
        initramfs=str(hardware.initramfs),
        kernel_arguments=hardware.kernel_arguments,
        drives=tuple((str(drive.path or ""), drive.read_only) for drive in hardware.drives),
        private=hardware.private,
    )


def same_hardware(host: QemuHost, spec: SandboxSpec, files: MachineFiles, frame: Frame, plug: Plug) -> Hardware:
    """Return the machine of `frame` again, waiting for a state to be loaded."""
    return Hardware(
        binary=host.binary,
        name=machine_name(files.directory.name),
        accelerator=host.verdict.accelerator,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        memory_file=files.memory,
        kernel=Path(frame.kernel),
        initramfs=Path(frame.initramfs),
        kernel_arguments=frame.kernel_arguments,
        drives=tuple(Drive(Path(path) if path else None, read_only) for path, read_only in frame.drives),
        card=plug.card,
        console=files.console,
        incoming=True,
    )


def largest_file_bytes(hardware: Hardware) -> int:
    """Return the size of the largest file that the machine has any business writing."""
    sizes = [drive.path.stat().st_size for drive in hardware.drives if drive.path and not drive.read_only]
    return max((hardware.memory_mib + STATE_MIB) << 20, *sizes)
