from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.fixture(autouse=True)
def nothing_stays(bhatti: Bhatti) -> Iterator[None]:
    yield
    bhatti("rm", "-f", "two", "-q")
    bhatti("template", "rm", "-f", "agent", "-q")


def test_a_template_from_its_creation_to_its_end(bhatti: Bhatti, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in it")
    made = bhatti(
        *("template", "create", "agent", "--memory", "256", "-e", "A=b", "--label", "of=agent", "--secret", "k:/k"),
        *("--file", f"{tmp_path / 'file'}:/etc/it", "-v", "data:/data", "--user", "root", "--json"),
    ).json()
    assert bhatti("template", "ls", "-q").out == "agent\n"
    assert [row.split()[0] for row in bhatti("template", "ls").out.splitlines()] == ["NAME", "agent"]
    shown = bhatti("template", "inspect", "agent").out
    for part in ("256 MiB", "A=b", "of=agent", "k as /k", "/etc/it", "data at /data", "root", made["id"]):
        assert part in shown
    for ref in (made["id"], made["id"][:4]):
        assert bhatti("template", "inspect", ref, "--json").json() == made
    assert bhatti("template", "create", "agent", "--json").code == 5
    replaced = bhatti("template", "create", "--replace", "agent", "--label", "of=other").out
    assert replaced == f"{made['id']}\tagent\treplaced\n"
    sandbox = bhatti("create", "two", "--template", "agent", "--label", "own=x", "--json").json()
    assert (sandbox["template_id"], sandbox["labels"]) == (made["id"], {"of": "other", "own": "x"})
    assert made["id"] in bhatti("inspect", "two").out
    assert bhatti("template", "rm", "agent").out == "deleted\n"
    assert bhatti("template", "ls", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["template", "create", "two words"], 2),
        (["template", "create", "agent", "--secret", "db-url"], 2),
        (["template", "create", "--replace", "agent"], 4),
        (["template", "rm", "agent"], 4),
        (["template", "inspect", "agent"], 4),
        (["create", "two", "--template", "agent"], 4),
        (["create", "two", "--template", "agent", "--from", "one"], 4),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(bhatti: Bhatti, arguments: list[str], exit_code: int) -> None:
    assert bhatti(*arguments, "--json").code == exit_code
    assert bhatti("template", "ls", "-q").out == ""
