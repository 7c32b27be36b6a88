import shutil
import subprocess
from pathlib import Path

import pytest

from bhatti.errors import CorruptData
from bhatti.secrets.keys import Keys


@pytest.mark.parametrize("value", ["", "x", "grüße\n\x7f", "a" * (1 << 20)])
def test_what_is_sealed_is_opened_and_not_to_be_seen(value: str) -> None:
    keys = Keys.generate()
    sealed = keys.seal(value)
    assert keys.open(sealed, "it") == value
    assert len(value) < 5 or value.encode() not in sealed
    assert keys.seal(value) != sealed


def test_another_key_does_not_open_it() -> None:
    sealed = Keys.generate().seal("value")
    for wrong in (sealed, b"", b"junk", sealed[:-1]):
        with pytest.raises(CorruptData, match="secret 'a'") as caught:
            Keys.generate().open(wrong, "secret 'a'")
        assert caught.value.code == "secret-unreadable"


def test_keys_come_back_from_their_text() -> None:
    keys = Keys.generate().followed()
    sealed = keys.seal("value")
    again = Keys.parse(f"# a comment\n\n{keys.text()}")
    assert (len(again), again.open(sealed, "it"), again.text()) == (2, "value", keys.text())
    assert len(Keys.parse("# nothing\n")) == 0


def test_a_new_key_opens_nothing_old_and_comes_first() -> None:
    old = Keys.generate()
    both = old.followed()
    assert both.open(old.seal("old"), "it") == "old"
    assert both.newest().open(both.seal("new"), "it") == "new"
    with pytest.raises(CorruptData):
        both.newest().open(old.seal("old"), "it")


def test_a_line_that_is_no_key_is_named_and_not_shown() -> None:
    with pytest.raises(CorruptData, match="line 2") as caught:
        Keys.parse(f"{Keys.generate().text()}AGE-SECRET-KEY-1WRONG\n")
    assert caught.value.code == "secret-key-corrupt"
    assert "AGE-SECRET" not in str(caught.value) + repr(caught.value.__cause__)


def test_keys_do_not_show_themselves() -> None:
    keys = Keys.generate()
    assert "AGE" not in f"{keys!r}{keys}"


@pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not here")
def test_the_program_age_understands_what_we_write(tmp_path: Path) -> None:
    keys = Keys.generate()
    (tmp_path / "key").write_text(keys.text())
    (tmp_path / "sealed").write_bytes(keys.seal("value"))
    done = subprocess.run(
        ["age", "-d", "-i", str(tmp_path / "key"), str(tmp_path / "sealed")], capture_output=True, check=True
    )
    assert done.stdout == b"value"
