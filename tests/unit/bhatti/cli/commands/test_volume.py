from collections.abc import Iterator

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.commands.volume import size_mib
from bhatti.errors import InvalidRequest


@pytest.fixture(autouse=True)
def nothing_stays(bhatti: Bhatti) -> Iterator[None]:
    yield
    bhatti("rm", "-f", "two", "-q")
    bhatti("volume", "rm", "-f", "data", "copy", "-q")


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("512M", 512), ("1G", 1024), ("10g", 10_240), ("2GiB", 2048), ("1T", 1 << 20)]
)
def test_sizes_are_in_mib_or_have_a_unit(text: str, size: int) -> None:
    assert size_mib(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "-1", "1.5G", "2T", "1K", "99999999999999999"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        size_mib(text)
    assert caught.value.code == "bad-size"


def test_a_volume_from_its_creation_to_its_end(bhatti: Bhatti) -> None:
    assert bhatti("volume", "create", "data", "--size", "64M").out == "data\t64 MiB\tcreated\n"
    assert bhatti("volume", "resize", "data", "1G").out == "data\t1 GiB\tresized\n"
    assert bhatti("volume", "clone", "data", "copy", "-q").out == "copy\n"
    assert bhatti("volume", "ls", "-q").out == "copy\ndata\n"
    assert bhatti("create", "two", "-v", "data:/data", "--volume", "copy:/copy:ro", "-q").code == 0
    assert "data at /data" in bhatti("inspect", "two").out
    rows = bhatti("volume", "ls").out.splitlines()
    assert [row.split()[0] for row in rows] == ["NAME", "copy", "data"]
    assert "two:ro" in rows[1]
    assert "two at /copy, read-only" in bhatti("volume", "inspect", "copy").out
    assert bhatti("volume", "inspect", "data", "--json").json()["attached"][0]["sandbox"] == "two"
    refused = bhatti("volume", "rm", "data", "copy", "--json")
    assert (refused.code, refused.json()) == (5, {"data": "volume-in-use", "copy": "volume-in-use"})
    bhatti("rm", "two")
    assert bhatti("volume", "rm", "data", "copy").out == "data: deleted\ncopy: deleted\n"
    assert bhatti("volume", "ls", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["volume", "create", "two words"], 2),
        (["volume", "create", "data", "--size", "much"], 2),
        (["volume", "create", "data", "--size", "1T"], 74),
        (["volume", "rm", "data"], 4),
        (["volume", "inspect", "data"], 4),
        (["volume", "clone", "data", "copy"], 4),
        (["create", "two", "-v", "data:/data"], 4),
        (["create", "two", "-v", "/srv:/data"], 2),
        (["create", "two", "-v", "data"], 2),
        (["create", "two", "-v", "data:/data:rx"], 2),
        (["create", "two", "-v", "data:/"], 2),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(bhatti: Bhatti, arguments: list[str], exit_code: int) -> None:
    assert bhatti(*arguments, "--json").code == exit_code
    assert bhatti("volume", "ls", "-q").out == ""
