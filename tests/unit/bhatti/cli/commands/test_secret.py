import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti

VALUE = "s3cret-vALUE-of-the-tests"

Typed = Callable[[bytes], None]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Put bytes on the standard input of the next command."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))


@pytest.fixture(autouse=True)
def nothing_stays(bhatti: Bhatti) -> Iterator[None]:
    yield
    bhatti("rm", "-f", "two", "three", "-q")
    bhatti("secret", "rm", "-f", "TOKEN", "key", "-q")


def test_a_secret_from_its_first_to_its_last_day(bhatti: Bhatti, typed: Typed, tmp_path: Path) -> None:
    typed(f"{VALUE}\n".encode())
    assert bhatti("secret", "set", "TOKEN").out == "TOKEN\tset\n"
    (tmp_path / "key").write_text("line\nline\n")
    assert bhatti("secret", "set", "key", "--from-file", str(tmp_path / "key"), "-q").out == "key\n"
    assert bhatti("secret", "ls", "-q").out == "TOKEN\nkey\n"
    assert [row.split()[0] for row in bhatti("secret", "ls").out.splitlines()] == ["NAME", "TOKEN", "key"]
    assert set(bhatti("secret", "inspect", "key", "--json").json()) == {"name", "created_at", "updated_at"}
    assert "TOKEN" in bhatti("secret", "inspect", "TOKEN").out
    assert bhatti("create", "two", "--secret", "TOKEN", "--secret", "key:/key", "-q").code == 0
    assert bhatti("exec", "two", "--", "printenv", "TOKEN").out == f"{VALUE}\n"
    assert bhatti("inspect", "two", "--json").json()["secrets"] == ["TOKEN", "key"]
    assert "TOKEN" in bhatti("inspect", "two").out
    assert bhatti("fork", "two", "three", "--no-secrets", "--json").json()["secrets"] == []
    assert bhatti("secret", "rotate-key").out == "2 encrypted anew\n"
    assert bhatti("secret", "rm", "TOKEN", "key").out == "TOKEN: deleted\nkey: deleted\n"
    assert bhatti("secret", "ls", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "text", "exit_code"),
    [
        (["secret", "set", "two words"], b"x", 2),
        (["secret", "set", "TOKEN"], b"", 2),
        (["secret", "set", "TOKEN"], b"\n", 2),
        (["secret", "set", "TOKEN"], b"\xff\xfe", 2),
        (["secret", "set", "TOKEN"], b"a\0b", 2),
        (["secret", "set", "TOKEN"], b"x" * 65_537, 2),
        (["secret", "set", "TOKEN", "value"], b"", 2),
        (["secret", "set", "TOKEN", "--from-file", "/nowhere"], b"", 2),
        (["secret", "rm", "TOKEN"], b"", 4),
        (["secret", "inspect", "TOKEN"], b"", 4),
        (["create", "two", "--secret", "TOKEN"], b"", 2),
        (["create", "two", "--secret", "a:"], b"", 2),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(
    bhatti: Bhatti, typed: Typed, arguments: list[str], text: bytes, exit_code: int
) -> None:
    typed(text)
    assert bhatti(*arguments, "--json").code == exit_code
    assert bhatti("secret", "ls", "-q").out == ""
