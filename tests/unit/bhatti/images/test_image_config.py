import json
from pathlib import Path

import pytest

from bhatti.errors import CorruptData
from bhatti.images.artefacts import ArtefactStore, silent
from bhatti.images.image_config import FILE_NAME, ImageConfig, read_image_config


def test_what_was_stored_is_read_and_damage_is_named(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    with store.locked(silent), store.staging() as work:
        (work / FILE_NAME).write_text(json.dumps({"env": {"A": "b"}, "entrypoint": ["/init"], "new-key": 1}))
        root = store.commit(work, "root", 1, {"image": "x"})
    assert read_image_config(root) == ImageConfig(env={"A": "b"}, entrypoint=("/init",))
    (root.directory / FILE_NAME).write_text("{}")
    with pytest.raises(CorruptData) as caught:
        read_image_config(root)
    assert caught.value.code == "image-corrupt"


def test_an_artefact_that_says_nothing_and_one_that_makes_no_sense(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    with store.locked(silent), store.staging() as empty, store.staging() as mad:
        assert read_image_config(store.commit(empty, "root", 1, {"image": "x"})) == ImageConfig()
        (mad / FILE_NAME).write_text('{"env": 5}')
        root = store.commit(mad, "root", 1, {"image": "y"})
    with pytest.raises(CorruptData, match="is damaged: Expected `object`") as caught:
        read_image_config(root)
    assert (caught.value.code, caught.value.hint) == ("image-corrupt", "import the image again")
