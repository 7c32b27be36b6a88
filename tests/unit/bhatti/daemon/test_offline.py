from pathlib import Path

import msgspec
import pytest
from tests.serving import settings_in
from tests.unit.bhatti.daemon.test_builds import Store

from bhatti.daemon import offline
from bhatti.daemon.offline import WORK
from bhatti.errors import NotFound
from bhatti.operations import types


def said(capsysbinary: pytest.CaptureFixture[bytes], directory: Path, work: str, *arguments: str) -> list[bytes]:
    WORK[work](settings_in(directory), list(arguments))
    return capsysbinary.readouterr().out.splitlines()


def test_the_doctor_answers_with_a_report(capsysbinary: pytest.CaptureFixture[bytes], directory: Path) -> None:
    (line,) = said(capsysbinary, directory, "doctor")
    assert msgspec.json.decode(line, type=types.DoctorReport).checks


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
