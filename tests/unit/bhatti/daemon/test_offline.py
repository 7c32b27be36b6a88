import io
from pathlib import Path

import msgspec
import pytest
from tests.serving import settings_in
from tests.unit.bhatti.daemon.test_builds import BASE, Store
from tests.unit.bhatti.engines.firecracker.test_version import program
from tests.unit.bhatti.engines.qemu.test_stored import FIRECRACKER, at_rest

from bhatti.daemon import builds, offline
from bhatti.daemon.offline import WORK
from bhatti.errors import NotFound
from bhatti.operations import types


def said(capsysbinary: pytest.CaptureFixture[bytes], directory: Path, work: str, *arguments: str) -> list[bytes]:
    WORK[work](settings_in(directory), list(arguments))
    return capsysbinary.readouterr().out.splitlines()


def test_the_doctor_answers_with_a_report(capsysbinary: pytest.CaptureFixture[bytes], directory: Path) -> None:
    (line,) = said(capsysbinary, directory, "doctor")
    assert msgspec.json.decode(line, type=types.DoctorReport).checks


def test_snapshots_are_listed_or_those_that_are_stranded(
    capsysbinary: pytest.CaptureFixture[bytes], directory: Path
) -> None:
    assert said(capsysbinary, directory, "snapshot-list") == [b"[]"]
    at_rest(directory / "sandboxes", "anna", FIRECRACKER)
    for version, count in (("1.16.1", 0), ("1.17.0", 1)):
        arguments = [str(program(directory, f"Firecracker v{version}"))]
        (line,) = said(capsysbinary, directory, "snapshot-list", *arguments)
        assert len(msgspec.json.decode(line, type=list[types.StoredSnapshot])) == count


def test_images_are_listed(capsysbinary: pytest.CaptureFixture[bytes], directory: Path) -> None:
    assert said(capsysbinary, directory, "image-list") == [b"[]"]


def test_a_build_tells_its_steps_and_then_the_image(
    capsysbinary: pytest.CaptureFixture[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ready(Store):
        def __init__(self, directory: Path) -> None:
            super().__init__(directory)
            self.go_on.set()

    monkeypatch.setattr(offline, "ImageStore", Ready)
    lines = said(capsysbinary, directory, "image-build", '{"name": "base"}')
    events = [msgspec.json.decode(line, type=types.BuildEvent) for line in lines]
    assert [event.type for event in events] == ["progress", "progress", "image"]
    assert events[-1].image is not None


def test_an_image_is_taken_over_as_described_by_argument_or_input(
    capsysbinary: pytest.CaptureFixture[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is described decides; the work itself is for the tests of builds."""
    asked: list[object] = []

    def note(request: object) -> builds.Work:
        asked.append(request)
        return lambda store, progress: BASE

    monkeypatch.setattr(builds, "importing", note)
    monkeypatch.setattr(builds, "pulling", note)
    (line,) = said(capsysbinary, directory, "image-import", '{"source": "oci:/x", "name": "app"}')
    assert msgspec.json.decode(line, type=types.BuildEvent).type == "image"
    given = types.ImagePull(reference="alpine", username="alice", password="secret")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(msgspec.json.encode(given))))
    said(capsysbinary, directory, "image-pull")
    assert asked == [types.ImageImport(source="oci:/x", name="app"), given]


def test_removing_what_is_not_there_is_an_error(directory: Path) -> None:
    with pytest.raises(NotFound):
        WORK["image-remove"](settings_in(directory), ["base"])


def test_an_image_is_removed(
    capsysbinary: pytest.CaptureFixture[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    class Removing(Store):
        def remove(self, name: str) -> None:
            removed.append(name)

    monkeypatch.setattr(offline, "ImageStore", Removing)
    assert said(capsysbinary, directory, "image-remove", "base") == [b'{"status":"deleted"}']
    assert removed == ["base"]
