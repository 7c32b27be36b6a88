"""What commands can do while no daemon runs: look at the machine, and make images.

The command line runs `python -m bhatti.daemon WORK` for it, so that it need not import the daemon's side itself. The
answers are the same JSON that the daemon sends, one event a line.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bhatti.daemon import builds, doctor, upgrading
from bhatti.daemon.settings import Settings
from bhatti.images.store import ImageStore
from bhatti.operations import types


def run_doctor(settings: Settings, arguments: list[str]) -> None:
    """Print the doctor's report."""
    del arguments
    _say(doctor.examine(settings))


def run_image_list(settings: Settings, arguments: list[str]) -> None:
    """Print the list of images."""
    del arguments
    _say([builds.answer(image) for image in ImageStore(Path(settings.images_dir)).list()])


def run_image_build(settings: Settings, arguments: list[str]) -> None:
    """Build an image, described by one argument (an `ImageBuild` as JSON); print the events of the build."""
    _make(settings, builds.building(msgspec.json.decode(arguments[0], type=types.ImageBuild)))


def run_image_import(settings: Settings, arguments: list[str]) -> None:
    """Take over an image of this machine, described by one argument (an `ImageImport`); print the events."""
    _make(settings, builds.importing(msgspec.json.decode(arguments[0], type=types.ImageImport)))


def run_image_pull(settings: Settings, arguments: list[str]) -> None:
    """Take over an image of a registry, described on standard input (an `ImagePull`), as it may hold a password."""
    del arguments
    _make(settings, builds.pulling(msgspec.json.decode(sys.stdin.buffer.read(), type=types.ImagePull)))


def run_image_remove(settings: Settings, arguments: list[str]) -> None:
    """Remove the image named by the argument."""
    ImageStore(Path(settings.images_dir)).remove(arguments[0])
    _say(types.Outcome(status="deleted"))


def run_snapshot_list(settings: Settings, arguments: list[str]) -> None:
    """Print the memory snapshots; with an argument, those that the Firecracker at that path could not load."""
    _say(upgrading.stranded(settings, arguments[0]) if arguments else upgrading.snapshots(settings))


WORK: dict[str, Callable[[Settings, list[str]], None]] = {
    "doctor": run_doctor,
    "image-list": run_image_list,
    "image-build": run_image_build,
    "image-import": run_image_import,
    "image-pull": run_image_pull,
    "image-remove": run_image_remove,
    "snapshot-list": run_snapshot_list,
}


def _make(settings: Settings, work: builds.Work) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        _say(types.BuildEvent(type="progress", stage=stage, done=done, total=total))

    image = work(ImageStore(Path(settings.images_dir)), progress)
    _say(types.BuildEvent(type="image", image=builds.answer(image)))


def _say(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
