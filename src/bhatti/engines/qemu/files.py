"""The files of one machine: their names, how they are made, and how they go."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.volume_files import VolumeFiles
from bhatti.errors import OutOfSpace
from bhatti.images.config_drive import ConfigFile, ConfigVolume, GuestConfig, make_config_drive
from bhatti.images.layer import make_layer
from bhatti.model.sandbox import SandboxSpec, VolumeAttachment

SPARE_MIB = 64
"""What must be left on the disk beyond a machine's memory: its layer's first writes, logs, the record."""


@dataclass(frozen=True, slots=True)
class MachineFiles:
    """Where the files of the machine in `directory` are. Everything the machine needs beside its image is in there."""

    directory: Path

    @property
    def memory(self) -> Path:
        """The guest's memory, sparse."""
        return self.directory / "ram"

    @property
    def state(self) -> Path:
        """What QEMU knows of a stopped machine's devices; of a fork's first stop, its memory too."""
        return self.directory / "state"

    @property
    def layer(self) -> Path:
        """What the guest has written."""
        return self.directory / "layer.ext4"

    @property
    def config(self) -> Path:
        """The config drive."""
        return self.directory / "config.ext4"

    @property
    def born(self) -> Path:
        """The config drive that a fork's memory knows: that of the machine it comes from."""
        return self.directory / "born.ext4"

    @property
    def monitor(self) -> Path:
        """The monitor's socket."""
        return self.directory / "qmp.sock"

    @property
    def console(self) -> Path:
        """What the guest wrote to its console."""
        return self.directory / "console.log"

    @property
    def log(self) -> Path:
        """What QEMU itself printed."""
        return self.directory / "qemu.log"


def check_space(directory: Path, memory_mib: int) -> None:
    """Raise `OutOfSpace` unless the disk could take all of the machine's memory.

    The memory file is sparse: without room, the machine would die of SIGBUS some time later, at a page it touches.
    """
    stat = os.statvfs(directory)
    free_mib = stat.f_bavail * stat.f_frsize >> 20
    if free_mib < memory_mib + SPARE_MIB:
        raise OutOfSpace(
            f"{directory} has {free_mib} MiB free, a machine of {memory_mib} MiB needs {memory_mib + SPARE_MIB} MiB",
            hint="free disk space, or ask for less memory",
        )


def make_config(files: MachineFiles, spec: SandboxSpec, dns: tuple[str, ...], generation: int = 0) -> None:
    """Make the config drive of a machine; `generation` is the identity that it holds."""
    config = GuestConfig(
        sandbox_id=spec.id,
        hostname=spec.name,
        token=spec.token,
        user=spec.user,
        env=spec.env,
        files={file.path: ConfigFile(file.content, file.mode) for file in spec.files},
        volumes=tuple(
            ConfigVolume(device=volume_device(index), mount=volume.target, read_only=volume.read_only)
            for index, volume in enumerate(spec.volumes)
        ),
        dns=dns,
        init=spec.init,
        generation=generation,
    )
    make_config_drive(files.config, config)


def volume_device(index: int) -> str:
    """Return what the guest calls its volume number `index`: /dev/vde is the first."""
    return f"/dev/vd{chr(ord('e') + index)}"


def make_disk(files: MachineFiles, disk_mib: int) -> None:
    """Make the machine's layer."""
    make_layer(files.layer, disk_mib)


def find_volumes(settings: QemuSettings, volumes: tuple[VolumeAttachment, ...]) -> list[Path]:
    """Return the files of the volumes. Raises `NotFound` (`volume-not-found`), `CorruptData` (`volume-corrupt`)."""
    keeper = VolumeFiles(settings.volumes_dir)
    return [keeper.find(volume.name) for volume in volumes]


def directories_in(parent: Path) -> list[Path]:
    """Return the directories in `parent`, in the order of their names."""
    return sorted(path for path in parent.iterdir() if path.is_dir())


def remove_files(directory: Path) -> None:
    """Remove a machine's directory and all in it. Nothing happens if there is none."""
    shutil.rmtree(directory, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(function: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
