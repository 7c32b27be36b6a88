"""What `bhatti doctor` says about the Firecracker engine on this host."""

from bhatti.engines.base import Finding
from bhatti.engines.firecracker.jail import find_jailer
from bhatti.engines.firecracker.kvm import OTHERWISE, need_kvm
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency
from bhatti.net.abilities import bridge_ability


def examine(settings: QemuSettings) -> list[Finding]:
    """Return the facts about Firecracker, KVM and network. Blocks; boots a tiny guest if nobody has yet."""
    findings = [_network()]
    try:
        found = find_firecracker(settings.binary)
    except MissingDependency as error:
        return [Finding(name="firecracker", level="failed", detail=error.message, hint=error.hint), *findings]
    program = Finding(name="firecracker", level="ok", detail=f"{found.version} ({found.path})")
    if isinstance(settings, FirecrackerSettings) and settings.jailer:
        try:
            jail = Finding(name="jailer", level="ok", detail=find_jailer(settings.jailer, found.version))
        except MissingDependency as error:
            jail = Finding(name="jailer", level="failed", detail=error.message, hint=error.hint)
        findings.append(jail)
    try:
        verdict = need_kvm(found.path, found.version, settings.state_dir)
    except MissingDependency as error:
        kvm = Finding(name="kvm", level="failed", detail=error.message, hint=error.hint)
    else:
        kvm = Finding(name="kvm", level="ok", detail=verdict.reason)
    return [program, kvm, *findings]


def _network() -> Finding:
    ability = bridge_ability()
    if ability.able:
        return Finding(name="network", level="ok", detail=f"bridge: {ability.reason}")
    return Finding(name="network", level="failed", detail=f"no bridge: {ability.reason}", hint=OTHERWISE)
