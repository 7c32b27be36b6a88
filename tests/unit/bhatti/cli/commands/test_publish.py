from collections.abc import Iterator

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.fixture(autouse=True)
def nothing_stays(bhatti: Bhatti) -> Iterator[None]:
    yield
    bhatti("unpublish", "--force", "one", "8000", "8001", "-q")


def test_a_port_is_published_listed_and_taken_back(bhatti: Bhatti) -> None:
    url = bhatti("publish", "one", "8000").out.strip()
    assert url.endswith("/p/one/")
    made = bhatti("publish", "one", "8001", "--alias", "page", "--json").json()
    assert (made["port"], made["alias"]) == (8001, "page")
    rows = [line.split() for line in bhatti("publish").out.splitlines()]
    assert rows[0] == ["SANDBOX", "PORT", "URL", "AGE"]
    assert [row[:3] for row in rows[1:]] == [["one", "8000", url], ["one", "8001", made["url"]]]
    assert bhatti("publish", "one", "-q").out == "one\npage\n"
    assert [found["alias"] for found in bhatti("publish", "one", "--json").json()] == ["one", "page"]
    assert bhatti("unpublish", "one", "8000", "8001").out == "8000: unpublished\n8001: unpublished\n"
    assert bhatti("publish", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["publish", "one", "http"], 2),
        (["publish", "one", "1:2"], 2),
        (["publish", "one", "--alias", "x"], 2),
        (["publish", "one", "8000", "--alias", "www"], 2),
        (["publish", "nobody", "8000"], 4),
        (["publish", "nobody"], 4),
        (["unpublish", "one", "8000"], 4),
        (["unpublish", "nobody", "8000"], 4),
    ],
)
def test_what_cannot_be_is_told_with_a_code(bhatti: Bhatti, arguments: list[str], exit_code: int) -> None:
    assert bhatti(*arguments, "--json").code == exit_code
