import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.daemon.attachments import MAX_VOLUMES, check_free, holders, wanted
from bhatti.errors import Conflict, InvalidRequest
from bhatti.model.sandbox import VolumeAttachment
from bhatti.operations.types import SandboxCreate, VolumeMount
from bhatti.store.sandboxes import Record


def mount(name: str = "data", target: str = "/data", **fields: object) -> VolumeMount:
    return VolumeMount(name=name, target=target, **fields)  # type: ignore[arg-type]


def having(name: str, *volumes: VolumeAttachment) -> Record:
    made = record(name.rjust(16, "0"), name)
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, volumes=volumes))


WRITER, READER = VolumeAttachment("data", "/data"), VolumeAttachment("data", "/data", read_only=True)


def test_what_may_be_made_has_a_size() -> None:
    found = wanted(
        SandboxCreate(
            volumes=[mount("a", "/a"), mount("b", "/b/", auto_create=True)],
            persistent_volumes=[VolumeMount(name="c", mount="/c", auto_create=True, size_mb=5, readonly=True)],
            new_volumes=[VolumeMount(name="d", mount="/d", size_mb=6)],
        )
    )
    assert found.volumes == (
        VolumeAttachment("a", "/a"),
        VolumeAttachment("b", "/b"),
        VolumeAttachment("c", "/c", read_only=True),
        VolumeAttachment("d", "/d"),
    )
    assert found.sizes_mib == {"b": 1024, "c": 5, "d": 6}


@pytest.mark.parametrize(
    "target", ["", "data", "/", "//", "/./", "/a/../b", "/proc", "/dev/x", "/etc", "/run/bhatti/x", "/a\0b", "/a\nb"]
)
def test_where_nothing_can_be_mounted_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wanted(SandboxCreate(volumes=[mount(target=target)]))
    assert caught.value.code == "bad-volume"


@pytest.mark.parametrize(
    ("mounts", "code"),
    [
        ([mount("-x")], "bad-name"),
        ([mount("../x")], "bad-name"),
        ([mount(), mount(target="/other")], "bad-volume"),
        ([mount(), mount("other", "/data/")], "bad-volume"),
        ([mount(mount="/other")], "bad-volume"),
        ([mount(f"v{n}", f"/v{n}") for n in range(MAX_VOLUMES + 1)], "bad-volume"),
    ],
)
def test_what_contradicts_itself_is_refused(mounts: list[VolumeMount], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wanted(SandboxCreate(volumes=mounts))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("held", "asked", "free"),
    [((), WRITER, True), ((READER,), READER, True), ((READER,), WRITER, False), ((WRITER,), READER, False)],
)
def test_one_writes_or_all_read(held: tuple[VolumeAttachment, ...], asked: VolumeAttachment, free: bool) -> None:
    records = [having("other"), having("one", *held)]
    assert [found.name for found, _ in holders(records, "data")] == (["one"] if held else [])
    if free:
        check_free(records, asked)
        return
    with pytest.raises(Conflict, match="'one'") as caught:
        check_free(records, asked)
    assert caught.value.code == "volume-in-use"
