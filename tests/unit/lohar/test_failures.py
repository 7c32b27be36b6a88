import errno

import pytest

from lohar.failures import RequestError, system_error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "no such file or directory"),
        (errno.ENOTDIR, "not a directory"),
        (errno.ECONNREFUSED, "connection refused"),
        (errno.EACCES, "permission denied"),
        (errno.ENOSPC, "no space left on device"),
    ],
)
def test_the_words_are_those_that_clients_look_for(number: int, words: str) -> None:
    error = system_error("open /x", OSError(number, "whatever the locale says"))
    assert isinstance(error, RequestError)
    assert str(error) == f"open /x: {words}"


def test_an_error_without_a_number_still_says_something() -> None:
    assert str(system_error("read", OSError("odd"))) == "read: odd"
    assert str(system_error("read", TimeoutError())) == "read: TimeoutError"
