"""What all machines of one engine share: the program, KVM, the network, the images. Found out once."""

import dataclasses

import msgspec

from bhatti.engines.firecracker.jail import find_jailer
from bhatti.engines.firecracker.kvm import OTHERWISE, need_kvm
from bhatti.engines.firecracker.settings import FirecrackerSettings
from bhatti.engines.firecracker.version import find_firecracker
from bhatti.engines.qemu import network
from bhatti.engines.qemu.host import QemuHost
from bhatti.engines.qemu.record import host_boot_id
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import MissingDependency
from bhatti.images.store import ImageStore

MACHINE = "pci"
"""How devices are connected: a snapshot can only be loaded by a machine that does it the same way."""


def open_host(settings: QemuSettings) -> QemuHost:
    """Look at the host, with `FirecrackerSettings`; blocks for a moment.

    Raises `MissingDependency`: like `find_firecracker`, `find_jailer` and `need_kvm`, and with the code
    `bridge-impossible`.
    """
    assert isinstance(settings, FirecrackerSettings)
    program = find_firecracker(settings.binary)
    if settings.jailer:
        settings = dataclasses.replace(settings, jailer=find_jailer(settings.jailer, program.version))
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
        devices=msgspec.json.encode(settings.limits).decode(),
        snapshot_format=program.snapshot_format,
    )
