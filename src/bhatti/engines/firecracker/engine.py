"""The Firecracker engine: microVMs of production, each a process of its own, on Linux with KVM."""

import builtins

import anyio

from bhatti.engines.base import Capabilities, Finding, Machine
from bhatti.engines.firecracker import cgroups, doctor
from bhatti.engines.firecracker.command import group_name, name_prefix
from bhatti.engines.firecracker.host import open_host
from bhatti.engines.firecracker.machine import FirecrackerMachine
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.engines.qemu.mold import Mold
from bhatti.engines.qemu.process import ProcessIdentity, processes_with
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.model.sandbox import SandboxSpec


class FirecrackerEngine(QemuEngine):
    """All machines below one state directory."""

    name = "firecracker"
    _kind = FirecrackerMachine
    _open_host = staticmethod(open_host)

    @classmethod
    def examine(cls, settings: QemuSettings) -> builtins.list[Finding]:
        """See `Engine.examine`."""
        return doctor.examine(settings)

    @property
    def capabilities(self) -> Capabilities:
        """See `Engine.capabilities`."""
        return Capabilities(
            own_kernel=True,
            pause=True,
            memory_snapshot=True,
            fork=True,
            bridge_network=True,
            rootless=False,
            # Firecracker opens the drives that the snapshot knows: a volume in the place of an empty one is impossible.
            fork_volumes=False,
        )

    async def adopt(self) -> builtins.list[Machine]:
        """See `Engine.adopt`."""
        found = await super().adopt()
        # Of machines that ended while no engine was there.
        await self._sweep_groups()
        return found

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        with anyio.CancelScope(shield=True):
            try:
                await super().aclose()
            finally:
                await self._sweep_groups()

    async def _sweep_groups(self) -> None:
        await anyio.to_thread.run_sync(cgroups.sweep, group_name(self.settings.state_dir))

    async def _find_mold(self, spec: SandboxSpec) -> tuple[Mold | None, str]:
        return (None, "it has volumes") if spec.volumes else await super()._find_mold(spec)

    def _processes(self) -> builtins.list[ProcessIdentity]:
        return processes_with(name_prefix(self.settings.state_dir), self.settings.sandboxes_dir)
