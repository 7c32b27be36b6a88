import pytest

from lohar.wire.messages import Identity
from lohar.wire.volume import Volume, addresses_device


def test_a_volume_comes_with_an_identity() -> None:
    volume = Volume(device="/dev/vde", mount="/data", read_only=True)
    identity = Identity(generation=1, clock_ns=0, entropy=bytes(32), volumes=(volume,))
    assert Identity.from_json(identity.to_json()) == identity


@pytest.mark.parametrize(
    ("device", "mount", "right"), [("/dev/vde", "/data", True), ("vde", "/data", False), ("/dev/vde", "data", False)]
)
def test_devices_and_mount_points_are_absolute(device: str, mount: str, right: bool) -> None:
    assert addresses_device(Volume(device=device, mount=mount)) is right
