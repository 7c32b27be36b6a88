"""What all machines of one engine share: the program, the accelerator, the network, the images. Found out once."""

from dataclasses import dataclass, field

from bhatti.engines.deaths import Deaths
from bhatti.engines.qemu import accelerator, network
from bhatti.engines.qemu.record import host_boot_id
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.images.store import ImageStore


@dataclass(frozen=True, slots=True)
class QemuHost:
    """The host as the engine found it when it was entered.

    `engine`, `machine` and `snapshot_format` say, in snapshots, what made them; an empty `machine` is the one that QEMU
    is told to be, an empty format is of no known version.
    `devices` is what was set about a machine's devices, which its snapshots keep: a fork has what its mold was given.
    """

    settings: QemuSettings
    binary: str
    version: str
    verdict: accelerator.Verdict
    networks: network.Networks
    images: ImageStore
    boot_id: str
    engine: str = "qemu"
    machine: str = ""
    devices: str = ""
    snapshot_format: str = ""
    deaths: Deaths = field(default_factory=Deaths)


def open_host(settings: QemuSettings) -> QemuHost:
    """Look at the host; blocks, for seconds only at the first start after a host boot.

    Raises `MissingDependency` when QEMU or something that the settings force is not there.
    """
    binary = settings.find_binary()
    version = accelerator.qemu_version(binary)
    verdict = accelerator.decide(binary, version, settings.state_dir, wanted=settings.accelerator)
    settings.sandboxes_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return QemuHost(
        settings=settings,
        binary=binary,
        version=version,
        verdict=verdict,
        networks=network.choose_networks(settings),
        images=ImageStore(settings.images_dir),
        boot_id=host_boot_id(),
    )
