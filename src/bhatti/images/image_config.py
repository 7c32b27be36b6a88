"""What an image says about running programs in it; stored beside its root file system."""

import msgspec

from bhatti.errors import CorruptData
from bhatti.images.artefacts import Artefact

FILE_NAME = "image.json"


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the makers of an image want its programs to be run; empty fields say nothing.

    `entrypoint` and `command` make one command line. `user` is a name or number, perhaps with `:group`. `directory`
    is where programs start. `ports` are like `80/tcp`.
    """

    env: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    directory: str = ""
    labels: dict[str, str] = {}
    ports: tuple[str, ...] = ()
    stop_signal: str = ""


def read_image_config(root: Artefact) -> ImageConfig:
    """Return what the image of this artefact says; one that was not imported says nothing.

    Raises `CorruptData` (code `image-corrupt`).
    """
    if FILE_NAME not in root.manifest.files:
        return ImageConfig()
    path = root.checked(FILE_NAME)
    try:
        return msgspec.json.decode(path.read_bytes(), type=ImageConfig)
    except msgspec.MsgspecError as error:
        raise CorruptData(f"{path} is damaged: {error}", hint="import the image again", code="image-corrupt") from error
