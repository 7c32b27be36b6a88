"""What `bhatti doctor` says about the QEMU engine on this host."""

from bhatti.engines.base import Finding
from bhatti.engines.qemu import accelerator
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency
from bhatti.net.abilities import bridge_ability


def examine(settings: QemuSettings) -> list[Finding]:
    """Return the facts about QEMU, acceleration and network. Blocks; probes the accelerator if nobody has yet."""
    findings = []
    try:
        binary = settings.find_binary()
        version = accelerator.qemu_version(binary)
    except MissingDependency as error:
        return [Finding(name="qemu", level="failed", detail=error.message, hint=error.hint), _network(settings)]
    findings.append(Finding(name="qemu", level="ok", detail=f"{version} ({binary})"))
    try:
        verdict = accelerator.decide(binary, version, settings.state_dir, wanted=settings.accelerator)
    except MissingDependency as error:
        findings.append(Finding(name="accelerator", level="failed", detail=error.message, hint=error.hint))
    else:
        findings.append(_acceleration(verdict))
    return [*findings, _network(settings)]


def _acceleration(verdict: accelerator.Verdict) -> Finding:
    detail = f"{verdict.accelerator}: {verdict.reason}"
    if verdict.accelerator == "kvm":
        return Finding(name="accelerator", level="ok", detail=detail)
    return Finding(
        name="accelerator",
        level="warning",
        detail=detail,
        hint="sandboxes run in software: use a host with working KVM for speed",
    )


def _network(settings: QemuSettings) -> Finding:
    ability = bridge_ability()
    if settings.network == "user":
        return Finding(name="network", level="ok", detail="user-mode, set in the settings")
    if ability.able:
        return Finding(name="network", level="ok", detail=f"bridge: {ability.reason}")
    return Finding(
        name="network",
        level="failed" if settings.network == "bridge" else "warning",
        detail=f"user-mode: {ability.reason}",
        hint="sandboxes cannot reach each other; run the daemon as root for a bridge",
    )
