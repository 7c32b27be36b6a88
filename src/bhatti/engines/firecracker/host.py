"""What all machines of one engine share: the program, KVM, the network, the images. Found out once."""

import dataclasses
import logging

import msgspec

from bhatti.engines.firecracker.cgroups import find_groups
from bhatti.engines.firecracker.jail import HINT, Jailer, choose_jailer
from bhatti.engines.firecracker.kvm import OTHERWISE, need_kvm
from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits
from bhatti.engines.firecracker.version import Firecracker, find_firecracker
from bhatti.engines.qemu import network
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.record import host_boot_id
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency
from bhatti.images.store import ImageStore

log = logging.getLogger(__name__)

MACHINE = "pci"
"""How devices are connected: a snapshot can only be loaded by a machine that does it the same way."""


def open_host(settings: QemuSettings) -> QemuHost:
    """Look at the host, with `FirecrackerSettings`; blocks for a moment.

    Raises `MissingDependency`: like `find_firecracker`, `usable_jailer` and `need_kvm`, and with the code
    `bridge-impossible`.
    """
    assert isinstance(settings, FirecrackerSettings)
    program = find_firecracker(settings.binary)
    jailer = usable_jailer(settings, program)
    if not jailer.path:
        log.warning("machines are in no jail: %s", jailer.reason)
    settings = dataclasses.replace(settings, jailer=jailer.path)
    verdict = need_kvm(program.path, program.version, settings.state_dir)
    try:
        networks = network.choose_networks(dataclasses.replace(settings, network="bridge"))
    except MissingDependency as error:
        raise MissingDependency(
            f"firecracker needs a bridge for its machines: {error.message}", hint=OTHERWISE, code="bridge-impossible"
        ) from error
    settings.sandboxes_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return QemuHost(
        settings=settings,
        binary=program.path,
        version=program.version,
        verdict=verdict,
        networks=networks,
        images=ImageStore(settings.images_dir),
        boot_id=host_boot_id(),
        engine="firecracker",
        machine=MACHINE,
        devices=msgspec.json.encode((settings.limits, settings.balloon, settings.vsock)).decode(),
        snapshot_format=program.snapshot_format,
    )


def usable_jailer(settings: FirecrackerSettings, program: Firecracker) -> Jailer:
    """Return the jailer that machines are started by, if there is one. Blocks for a moment.

    Limits that cannot be kept are an error: raises `MissingDependency` like `choose_jailer` and `find_groups`, and with
    the code `jailer-missing`.
    """
    jailer = choose_jailer(settings.jailer, program)
    if settings.jail_limits != JailLimits():
        if not jailer.path:
            raise MissingDependency(
                f"limits are set for the jails of machines, and there are none: {jailer.reason}",
                hint=HINT,
                code="jailer-missing",
            )
        find_groups()
    return jailer
