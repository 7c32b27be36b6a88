from collections.abc import Callable
from pathlib import Path

import pytest

from bhatti import Sandbox
from bhatti.errors import NotFound
from bhatti.sdk.sync.parts import Files, Ports, Sessions


@pytest.mark.parametrize("part", [Files, Sessions, Ports])
def test_the_examples_in_its_documentation_are_true(examples: Callable[[type], int], part: type) -> None:
    assert examples(part) >= 3


def test_a_tree_comes_back_as_it_went(sb: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "data").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "tree" / "run me").write_text("#!/bin/sh\necho ran")
    (tmp_path / "tree" / "run me").chmod(0o755)
    sb.files.upload(tmp_path / "tree", "there")
    assert sb.run("'there/run me'").stdout == "ran\n"
    sb.files.download("there", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == bytes(range(256)) * 4096
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["deep", "run me"]


def test_one_file_goes_and_comes(sb: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"1")
    sb.files.upload(tmp_path / "here", "there")
    assert sb.files.stat("there").size == 1
    assert sb.files.stat(".").is_dir
    sb.files.download("there", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"1"


def test_a_file_that_cannot_be_fetched_leaves_none(sb: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"/nothing: no such file or directory") as caught:
        sb.files.download("nothing", tmp_path / "here")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFound, match=r"/nothing: no such file or directory"):
        sb.files.stat("nothing")


def test_text_has_an_encoding(sb: Sandbox) -> None:
    sb.files.write_text("word", "é", "latin-1")
    assert sb.files.read("word") == b"\xe9"
    assert sb.files.read_text("word", "latin-1") == "é"
    with pytest.raises(UnicodeDecodeError):
        sb.files.read_text("word")


def test_a_terminal_has_the_size_it_was_given(sb: Sandbox) -> None:
    with sb.sessions.open("stty size; read line; stty size", rows=10, cols=33) as terminal:
        assert terminal.read() == b"10 33\r\n"
        terminal.resize(11, 44)
        terminal.write("\n")
        assert b"".join(terminal).endswith(b"11 44\r\n")
