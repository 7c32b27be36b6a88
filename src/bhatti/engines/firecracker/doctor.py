"""What `bhatti doctor` says about the Firecracker engine on this host."""

from bhatti.engines.base import Finding
from bhatti.engines.firecracker.host import usable_jailer
from bhatti.engines.firecracker.jail import HINT
from bhatti.engines.firecracker.kvm import OTHERWISE, need_kvm
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.firecracker.version import INSTALL, Firecracker, find_firecracker, shortcoming
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
    program = _program(found)
    assert isinstance(settings, FirecrackerSettings)
    findings.append(_jail(settings, found))
    try:
        verdict = need_kvm(found.path, found.version, settings.state_dir)
    except MissingDependency as error:
        kvm = Finding(name="kvm", level="failed", detail=error.message, hint=error.hint)
    else:
        kvm = Finding(name="kvm", level="ok", detail=verdict.reason)
    return [program, kvm, *findings]


def _program(found: Firecracker) -> Finding:
    detail = f"{found.version} ({found.path})"
    if (trouble := shortcoming(found.version)) is not None:
        return Finding(name="firecracker", level="warning", detail=f"{detail}: {trouble}", hint=INSTALL)
    return Finding(name="firecracker", level="ok", detail=detail)


def _jail(settings: FirecrackerSettings, program: Firecracker) -> Finding:
    try:
        jailer = usable_jailer(settings, program)
    except MissingDependency as error:
        return Finding(name="jailer", level="failed", detail=error.message, hint=error.hint)
    if jailer.path:
        return Finding(name="jailer", level="ok", detail=f"{jailer.path}: each machine is a user of its own")
    detail = f"none, so a machine is a process of this user: {jailer.reason}"
    return Finding(name="jailer", level="warning", detail=detail, hint=HINT)


def _network() -> Finding:
    ability = bridge_ability()
    if ability.able:
        return Finding(name="network", level="ok", detail=f"bridge: {ability.reason}")
    return Finding(name="network", level="failed", detail=f"no bridge: {ability.reason}", hint=OTHERWISE)
