from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.disks import full_disk

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.qemu import record
from bhatti.engines.qemu.process import ProcessIdentity
from bhatti.engines.qemu.record import MachineRecord, Phase
from bhatti.model.sandbox import GuestFile, SandboxSpec, VolumeAttachment

SPEC = SandboxSpec(
    id="s1",
    name="box",
    image="base",
    cpus=2,
    memory_mib=512,
    disk_mib=1024,
    token="secret",
    env={"A": "ä"},
    files=(GuestFile("/etc/x", b"\x00\xff"),),
    volumes=(VolumeAttachment("data", "/data", True),),
)
FULL = MachineRecord(
    phase=Phase.RUNNING,
    spec=SPEC,
    boot_id=record.host_boot_id(),
    created_at=12.5,
    pid=42,
    start_time=4711,
    address="10.9.8.2",
    forwards={1024: 40001, 1025: 40002},
    timings_ms={"qemu": 51.5},
    cause=CauseOfDeath(kind="exit", detail="x"),
)


def test_a_record_comes_back_as_it_was_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    record.write_record(tmp_path, FULL)
    assert record.read_record(tmp_path) == FULL
    assert (tmp_path / record.RECORD_FILE).stat().st_mode & 0o777 == 0o600


def test_replacing_a_record_leaves_one_file(tmp_path: Path) -> None:
    record.write_record(tmp_path, FULL)
    record.write_record(tmp_path, msgspec.structs.replace(FULL, phase=Phase.FAILED))
    assert [path.name for path in tmp_path.iterdir()] == [record.RECORD_FILE]


def test_a_disk_that_takes_half_of_a_record_keeps_the_one_before(tmp_path: Path) -> None:
    record.write_record(tmp_path, FULL)
    with full_disk(100), pytest.raises(OSError, match="too large"):
        record.write_record(tmp_path, msgspec.structs.replace(FULL, phase=Phase.FAILED))
    assert record.read_record(tmp_path) == FULL
    assert [path.name for path in tmp_path.iterdir()] == [record.RECORD_FILE]


def test_two_who_write_at_once_leave_one_whole_record(tmp_path: Path) -> None:
    short, long = FULL, msgspec.structs.replace(FULL, why="x" * 100_000)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(100):
            written = [threads.submit(record.write_record, tmp_path, one) for one in (short, long)]
            assert [one.result() for one in written] == [None, None]
            assert record.read_record(tmp_path) in (short, long)
    assert [path.name for path in tmp_path.iterdir()] == [record.RECORD_FILE]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert record.read_record(tmp_path) is None


def test_a_process_is_known_only_in_the_boot_it_was_started_in() -> None:
    assert FULL.identity(record.host_boot_id()) == ProcessIdentity(42, 4711)
    assert FULL.identity("earlier") is None
    assert msgspec.structs.replace(FULL, pid=0).identity(FULL.boot_id) is None


def test_a_wreck_is_failed_and_says_why() -> None:
    found = record.wreck("s1", "unreadable")
    assert (found.phase, found.spec.id, found.identity("")) == (Phase.FAILED, "s1", None)
    assert found.cause is not None
    assert found.cause.detail == "unreadable"
