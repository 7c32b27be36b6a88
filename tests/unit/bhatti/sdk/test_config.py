from pathlib import Path

import pytest

from bhatti.errors import InvalidRequest
from bhatti.sdk.config import ClientConfig, read, write


def test_what_is_written_is_read_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "client.toml"
    for key in ("bht_first", 'odd " \\ \u00e9'):
        write(str(path), ClientConfig(url="http://box:8080", api_key=key))
        assert read(str(path)) == ClientConfig(url="http://box:8080", api_key=key)
        assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["client.toml"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    write(str(path), ClientConfig(url="http://box:8080", api_key="bht_x"))
    path.chmod(0o640)
    with pytest.raises(InvalidRequest, match="mode 0640") as caught:
        read(str(path))
    assert (caught.value.code, caught.value.hint) == ("bad-config", f"chmod 600 {path}")
    write(str(path), ClientConfig(url="http://box:8080"))
    path.chmod(0o644)
    assert read(str(path)).api_key == ""


@pytest.mark.parametrize(
    "content", [b"", b"url = 1", b"url", b'url = "x"\ncolour = "red"', b"\xff\xfe", b'url = "x"\napi_key = 5']
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "client.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=str(path)) as caught:
        read(str(path))
    assert caught.value.code == "bad-config"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest) as caught:
        write(str(tmp_path / "file" / "client.toml"), ClientConfig(url="http://box:8080"))
    assert caught.value.code == "bad-config"
    with pytest.raises(InvalidRequest):
        read(str(tmp_path))
