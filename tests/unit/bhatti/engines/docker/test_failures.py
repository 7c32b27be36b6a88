import errno
from pathlib import Path

import pytest

from bhatti.engines.docker import failures
from bhatti.errors import (
    BhattiError,
    Conflict,
    EngineFailure,
    InvalidRequest,
    MissingDependency,
    NotFound,
    OutOfSpace,
    Unavailable,
)

SOCKET = Path("/var/run/docker.sock")


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOENT, MissingDependency, "docker-missing"),
        (errno.EACCES, MissingDependency, "docker-forbidden"),
        (errno.EPERM, MissingDependency, "docker-forbidden"),
        (errno.ECONNREFUSED, Unavailable, "docker-unavailable"),
    ],
)
def test_a_docker_that_cannot_be_reached_says_why_and_what_to_do(
    number: int, kind: type[BhattiError], code: str
) -> None:
    error = failures.unreachable(SOCKET, OSError(number, "words"))
    assert type(error) is kind
    assert error.code == code
    assert str(SOCKET) in error.message
    assert error.hint is not None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (403, Conflict),
        (404, NotFound),
        (409, Conflict),
        (500, EngineFailure),
        (503, EngineFailure),
    ],
)
def test_a_refusal_keeps_dockers_words(status: int, kind: type[BhattiError]) -> None:
    error = failures.refused("POST /x", status, "no, thank you")
    assert type(error) is kind
    assert "POST /x" in error.message
    assert "no, thank you" in error.message


@pytest.mark.parametrize("words", ["write /a: no space left on device", "mkdir: disk quota exceeded"])
def test_a_full_disk_is_told_whatever_the_status(words: str) -> None:
    error = failures.refused("POST /x", 500, words)
    assert isinstance(error, OutOfSpace)
    assert error.hint is not None


@pytest.mark.parametrize("words", ["unknown or invalid runtime name: runsc", "Unknown runtime specified runsc"])
def test_a_missing_runtime_is_told_with_the_package(words: str) -> None:
    error = failures.refused("POST /x", 400, words)
    assert isinstance(error, MissingDependency)
    assert error.code == "runtime-missing"
    assert "apt install runsc" in str(error.hint)


def test_silence_and_broken_answers_are_unavailable() -> None:
    assert failures.silent("GET /x", 2.5).message == "Docker did not answer within 2.5 s: GET /x"
    assert failures.silent("GET /x", 2.5).code == "docker-timeout"
    assert failures.broken_off("GET /x", "eof").code == "docker-unavailable"
    assert failures.incomprehensible("GET /x", "not JSON").code == "docker-incomprehensible"
