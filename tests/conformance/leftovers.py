"""What an engine may leave behind: looked for before and after, and named."""

import asyncio
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.engines import Settings

from bhatti.engines.docker.container import LABEL_INSTANCE
from bhatti.engines.docker.network import interface_name
from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.firecracker import cgroups
from bhatti.engines.firecracker.command import group_name
from bhatti.net.abilities import bridge_ability
from bhatti.net.bridge import bridges_called
from bhatti.net.instance import bridge_alias, instance_of, table_name
from bhatti.net.tap import taps_of


@dataclass(frozen=True)
class Traces:
    """Everything of one state directory that can be seen from outside the engine."""

    processes: frozenset[str]
    files: frozenset[str]
    taps: frozenset[str]
    bridges: frozenset[str]
    tables: frozenset[str]
    groups: frozenset[str]

    def whoever_runs(self) -> "Traces":
        """Return the same without what a stop and a start change: a sandbox has another process, and a snapshot."""
        return Traces(
            frozenset(line.partition(" ")[2] for line in self.processes),
            frozenset(
                path for path in self.files if not path.endswith(("/state", "/snapshot.spent", "/ram", "/ram.sum"))
            ),
            self.taps,
            self.bridges,
            self.tables,
            self.groups,
        )

    def __str__(self) -> str:
        found = [f"{kind}: {', '.join(sorted(names))}" for kind, names in vars(self).items() if names]
        return "; ".join(found) or "nothing"


def traces(settings: Settings) -> Traces:
    """Look at the whole host. Blocks."""
    state_dir = settings.state_dir
    taps: set[str] = set()
    bridges: set[str] = set()
    tables: set[str] = set()
    if bridge_ability().able:
        instance = instance_of(state_dir)
        taps = set(taps_of(instance))
        bridges = set(bridges_called(bridge_alias(instance)))
        listed = subprocess.run(["/usr/sbin/nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        tables = {name for name in [table_name(instance)] if name in listed}
    processes = _processes_naming(str(state_dir))
    if isinstance(settings, DockerSettings):
        processes |= _containers_of(settings)
        bridge = Path("/sys/class/net") / interface_name(instance_of(state_dir))
        bridges |= {bridge.name} if bridge.exists() else set()
    sandboxes = state_dir / "sandboxes"
    files = {str(path.relative_to(state_dir)) for path in sandboxes.rglob("*")} if sandboxes.exists() else set()
    return Traces(
        frozenset(processes),
        frozenset(files),
        frozenset(taps),
        frozenset(bridges),
        frozenset(tables),
        frozenset(_groups_of(settings)),
    )


async def traces_of(settings: Settings) -> Traces:
    """Look at the whole host from an event loop."""
    return await asyncio.to_thread(traces, settings)


def _groups_of(settings: Settings) -> set[str]:
    """Return the control groups of the jails of an engine's machines."""
    together = [path / group_name(settings.state_dir) for path, _, _ in cgroups.mounted()]
    return {str(path) for group in together for path in (group, *group.glob("*/")) if path.is_dir()}


def _containers_of(settings: DockerSettings) -> set[str]:
    """Return the containers that Docker has of the engine, those that do not run included."""
    label = f"label={LABEL_INSTANCE}={instance_of(settings.state_dir)}"
    listing = ["docker", "-H", f"unix://{settings.socket}", "ps", "--all", "--filter", label, "--format", "{{.Names}}"]
    return set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())


def _processes_naming(text: str) -> set[str]:
    """Return processes of QEMU and Firecracker (and zombies of ours) with `text` on their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if ("qemu" in command or "firecracker" in command) and text in command:
                found.add(f"{entry.name} {command[:60]}")
    return found
