import msgspec
import pytest

from bhatti.operations.documents.volumes import VolumeCreate, VolumeMount, VolumeResize


@pytest.mark.parametrize("size", [0, -1, (1 << 20) + 1, "1G"])
def test_a_size_is_from_one_mib_to_one_tib(size: object) -> None:
    for document, kind in ((b'{"name": "x", "size_mb": %s}', VolumeCreate), (b'{"size_mb": %s}', VolumeResize)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(document % msgspec.json.encode(size), type=kind)


def test_the_references_words_for_a_mount_are_understood() -> None:
    for document in (
        b'{"name": "data", "target": "/data", "readonly": true}',
        b'{"name": "data", "mount": "/data", "size_mb": 64, "auto_create": true, "read_only": true}',
    ):
        mount = msgspec.json.decode(document, type=VolumeMount)
        assert (mount.target or mount.mount, mount.readonly or mount.read_only) == ("/data", True)
