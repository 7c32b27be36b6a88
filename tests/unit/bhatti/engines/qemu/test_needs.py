from pathlib import Path

import pytest
from tests.unit.bhatti.engines.qemu.stub import SPEC

from bhatti.engines.qemu.needs import needed_files
from bhatti.engines.qemu.record import RECORD_FILE, Frame, MachineRecord, Phase, write_record
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Busy


def frame(image: str) -> Frame:
    """A machine of that image, with a volume that it only reads."""
    drives = (
        (f"/images/{image}/root", True), ("/images/agent", True), ("/s/config", True), ("/s/layer", False),
        ("/volumes/data", True), ("", False),
    )  # fmt: skip
    return Frame(kernel="/images/kernel", initramfs="/images/initramfs", kernel_arguments="", drives=drives)


def write(directory: Path, phase: Phase, made_of: Frame | None) -> None:
    directory.mkdir(parents=True)
    record = MachineRecord(phase=phase, spec=SPEC, boot_id="b", created_at=1.0, network="user", frame=made_of)
    write_record(directory, record)


def test_nothing_is_needed_where_nothing_is(settings: QemuSettings) -> None:
    assert needed_files(settings) == frozenset()


def test_what_runs_sleeps_or_is_kept_as_a_copy_needs_its_files(settings: QemuSettings) -> None:
    write(settings.sandboxes_dir / "one", Phase.RUNNING, frame("runs"))
    write(settings.sandboxes_dir / "two", Phase.STOPPED, frame("sleeps"))
    write(settings.sandboxes_dir / "two/checkpoints/before", Phase.RUNNING, frame("checkpoint"))
    write(settings.sandboxes_dir / "three", Phase.FAILED, frame("failed"))
    write(settings.sandboxes_dir / "ready-1", Phase.CREATING, frame("ready"))
    write(settings.golden_dir / "key", Phase.RUNNING, frame("golden"))
    write(settings.molds_dir / "four", Phase.RUNNING, frame("mold"))
    found = needed_files(settings)
    assert {Path("/images/kernel"), Path("/images/initramfs"), Path("/images/agent")} <= found
    assert {path.parent.name for path in found if path.name == "root"} == {
        "runs", "sleeps", "checkpoint", "failed", "ready", "golden", "mold",
    }  # fmt: skip
    assert Path("/s/layer") not in found


@pytest.mark.parametrize(("phase", "made_of"), [(Phase.CREATING, None), (Phase.STARTING, frame("before"))])
def test_while_a_machine_comes_up_it_is_not_known(settings: QemuSettings, phase: Phase, made_of: Frame | None) -> None:
    write(settings.sandboxes_dir / "one", phase, made_of)
    with pytest.raises(Busy, match="'box' is coming up"):
        needed_files(settings)


def test_what_cannot_be_read_can_only_be_destroyed_and_needs_nothing(settings: QemuSettings) -> None:
    (settings.sandboxes_dir / "broken").mkdir(parents=True)
    (settings.sandboxes_dir / "broken" / RECORD_FILE).write_text("{")
    (settings.sandboxes_dir / "begun").mkdir()
    write(settings.sandboxes_dir / "never", Phase.FAILED, None)
    assert needed_files(settings) == frozenset()
