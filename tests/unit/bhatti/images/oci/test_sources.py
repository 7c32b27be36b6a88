from pathlib import Path

import pytest

from bhatti.errors import InvalidRequest
from bhatti.images.oci.archive import ArchiveSource
from bhatti.images.oci.layout import LayoutSource
from bhatti.images.oci.sources import open_source, split_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [("docker-archive:/a.tar", ArchiveSource), ("oci-archive:/a.tar", ArchiveSource), ("oci:/dir", LayoutSource)],
)
def test_the_kind_is_what_stands_before_the_colon(text: str, kind: type) -> None:
    source = open_source(text)
    assert isinstance(source, kind)
    assert source.origin == text


def test_a_path_may_be_followed_by_a_name_and_have_colons_itself(tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert split_path(str(odd)) == (odd, "")
    assert split_path(f"{odd}:name:tag") == (odd, "name:tag")
    assert split_path(f"{tmp_path}/none:tag") == (Path(f"{tmp_path}/none:tag"), "")
    assert open_source(f"oci:{odd}:v1").origin == f"oci:{odd}:v1"


@pytest.mark.parametrize("text", ["", "alpine", "docker://alpine", "oci:", "oci", "dir:/x", ":x", "oci:a\0b"])
def test_what_names_nothing_here_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_source(text)
    assert caught.value.code == "bad-source"
