from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from bhatti.images.artefacts import Progress
from bhatti.images.oci.source import ImageSource, ResolvedImage


class Nowhere(ImageSource):
    origin = "nowhere"
    closed = 0

    def resolve(self, workspace: Path, progress: Progress) -> ResolvedImage:
        raise NotImplementedError

    def fetch(self, image: ResolvedImage, progress: Progress) -> Sequence[BinaryIO]:
        raise NotImplementedError

    def suggested_name(self) -> str:
        return "nothing"

    def settle(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


def test_leaving_a_source_closes_it_whatever_happens() -> None:
    source = Nowhere()
    with source as entered:
        assert entered is source
    with pytest.raises(NotImplementedError), source:
        source.settle()
    assert source.closed == 2
