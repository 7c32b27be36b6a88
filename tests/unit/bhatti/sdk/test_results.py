import pytest

from bhatti.errors import GuestFailure
from bhatti.sdk.results import CommandFailed, HttpAnswer, Result


def test_a_result_tells_how_it_went() -> None:
    good = Result(command="true", exit_code=0, stdout_bytes=b"a\xff")
    assert good.ok
    assert good.check() is good
    assert good.stdout == "a\ufffd"
    late = Result(command="sleep", exit_code=124, reason="timeout")
    assert late.timed_out
    assert not late.ok


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Result(command="x", exit_code=3, stderr_bytes=b"a\nlast\n"), "`x` ended with exit code 3: last"),
        (Result(command="x", exit_code=1, stdout_bytes=b"said"), "`x` ended with exit code 1: said"),
        (Result(command="x", exit_code=1, reason="timeout"), "`x` was ended because its time was up"),
        (Result(command="x", exit_code=137, reason="oom"), "`x` was ended: oom"),
        (Result(command="y" * 300, exit_code=1), f"`{'y' * 197}...` ended with exit code 1"),
    ],
)
def test_a_failure_says_which_command_and_its_last_words(result: Result, words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        result.check()
    assert isinstance(caught.value, GuestFailure)
    assert caught.value.message == words
    assert caught.value.result is result


def test_an_answer_is_text_too() -> None:
    assert HttpAnswer(200, {}, "é".encode()).text == "é"
