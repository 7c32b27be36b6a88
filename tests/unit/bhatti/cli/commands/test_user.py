import json

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti, Remote


def test_a_user_is_made_listed_changed_and_removed(bhatti: Bhatti) -> None:
    done = bhatti("user", "create", "bert", "--max-cpus", "2", "--max-images", "none")
    assert done.out.startswith("bht_")
    assert len(done.out.split()) == 1
    assert "shown this once" in done.err
    assert "bert" in bhatti("user", "ls", "-q").out.split()
    row = next(line for line in bhatti("user", "ls").out.splitlines() if line.startswith("bert "))
    assert row.split()[2:5] == ["0/5", "0/2", "0/8192"]
    bhatti("user", "update", "bert", "--name", "bertha", "--max-sandboxes", "7")
    shown = dict(line.split(None, 1) for line in bhatti("user", "inspect", "bertha").out.splitlines())
    assert (shown["sandboxes"], shown["cpus"], shown["images"]) == ("0 of 7", "0 of 2", "any at most")
    found = bhatti("user", "inspect", "bertha", "--json").json()
    assert found["max_images"] is None
    assert bhatti("user", "info", found["id"][:-1], "--json").json() == found
    assert bhatti("user", "delete", "bertha").out == "deleted\n"
    assert bhatti("user", "list", "--json").json() == []


def test_a_key_is_replaced(bhatti: Bhatti, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = bhatti("user", "rotate", "anna", "--json").json()["api_key"]
    monkeypatch.setenv("BHATTI_URL", remote.url)
    for key, code in ((remote.key, 77), (fresh, 0)):
        monkeypatch.setenv("BHATTI_API_KEY", key)
        assert bhatti("user", "me").code == code
    assert bhatti("user", "ls").code == 77, "that is the administrator's"


def test_one_says_who_one_is(bhatti: Bhatti, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bhatti("user", "me").out == "admin, who administers this daemon\n"
    monkeypatch.setenv("BHATTI_URL", remote.url)
    monkeypatch.setenv("BHATTI_API_KEY", remote.key)
    assert "0 of 5" in bhatti("user", "me").out


def test_sandboxes_are_used_with_a_key_as_they_are_without(
    bhatti: Bhatti, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BHATTI_URL", remote.url)
    monkeypatch.setenv("BHATTI_API_KEY", remote.key)
    assert bhatti("create", "one").code == 0, "the name that the administrator has for another"
    assert bhatti("exec", "one", "--", "echo", "from afar").out == "from afar\n"
    assert bhatti("ls", "-q").out.count("\n") == 1
    monkeypatch.delenv("BHATTI_URL")
    assert bhatti("user", "rm", "anna", "--json").json() == {"anna": "user-has-sandboxes"}
    monkeypatch.setenv("BHATTI_URL", remote.url)
    assert bhatti("rm", "one").code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("user", "create", "a b"), 2),
        (("user", "create", "bert", "--max-cpus", "many"), 2),
        (("user", "create", "bert", "--max-cpus", "-1"), 2),
        (("user", "inspect", "nobody"), 4),
        (("user", "rotate", "nobody"), 4),
        (("user", "rm", "nobody", "noone"), 4),
    ],
)
def test_bad_input_ends_with_its_code(bhatti: Bhatti, arguments: tuple[str, ...], code: int) -> None:
    done = bhatti(*arguments, "--json")
    assert done.code == code
    assert json.loads(done.err.splitlines()[-1])["error"]
