import base64

from bhatti.mcp.answers import MAX_CHARACTERS, FileContent, RunResult, shortened
from bhatti.sdk.results import Result


def test_short_text_is_left_as_it_is() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefg", 3) == "a\n[… 4 characters left out …]\nfg"


def test_a_file_comes_in_parts_that_join() -> None:
    text = "é" * MAX_CHARACTERS + "end"
    first = FileContent.of(text.encode(), 0)
    assert f"offset {MAX_CHARACTERS}, up to {len(text)}" in str(first.note)
    second = FileContent.of(text.encode(), MAX_CHARACTERS)
    assert (second.note, second.encoding, second.size_bytes) == (None, "utf-8", len(text.encode()))
    assert first.content + second.content == text


def test_what_is_no_text_is_base64() -> None:
    data = b"\xff" * MAX_CHARACTERS
    first = FileContent.of(data, 0)
    assert first.encoding == "base64"
    part = base64.b64decode(first.content)
    assert f"offset {len(part)}," in str(first.note)
    assert part + base64.b64decode(FileContent.of(data, len(part)).content) == data


def test_output_that_the_daemon_cut_is_noted_too() -> None:
    assert RunResult.of(Result(command="x", exit_code=0, truncated=True)).note
    assert RunResult.of(Result(command="x", exit_code=0)).note is None
