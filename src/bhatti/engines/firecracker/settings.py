"""What can be set about the Firecracker engine."""

from dataclasses import dataclass

from bhatti.engines.qemu.settings import QemuSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class FirecrackerSettings(QemuSettings):
    """Where the engine works, and what it must not decide for itself.

    What has the same name as with QEMU means the same. Networks are always bridges and the accelerator is always KVM:
    Firecracker knows nothing else.
    """
