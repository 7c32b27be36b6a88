"""What can go wrong with Docker, as errors of the one tree. Docker's own words are kept in the message."""

import errno
from pathlib import Path

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

_NO_SPACE = ("no space left on device", "disk quota exceeded")

_NO_RUNTIME = ("unknown or invalid runtime name", "Unknown runtime specified")
"""How Docker 20.10 to 28 say it."""


def unreachable(socket: Path, error: OSError) -> BhattiError:
    """Return the error for a socket at which no Docker can be talked to."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return MissingDependency(
            f"no permission to use Docker at {socket}",
            hint="sudo usermod -aG docker $USER, then log in again (the group is as good as root), or run as root",
            code="docker-forbidden",
        )
    if error.errno == errno.ENOENT:
        return MissingDependency(
            f"no Docker listens at {socket}: there is no such socket",
            hint="apt install docker.io, then systemctl start docker; DOCKER_HOST names another socket",
            code="docker-missing",
        )
    return Unavailable(
        f"no Docker answers at {socket}: {error.strerror or error}",
        hint="systemctl status docker; start it again: systemctl start docker",
        code="docker-unavailable",
    )


def broken_off(what: str, why: str) -> Unavailable:
    """Return the error for an answer that ended before it was complete: dockerd stopped or was killed."""
    return Unavailable(
        f"Docker broke off: {what}: {why}",
        hint="dockerd may have been restarted; look at `systemctl status docker`, then try again",
        code="docker-unavailable",
    )


def silent(what: str, seconds: float) -> Unavailable:
    """Return the error for a Docker that says nothing."""
    return Unavailable(
        f"Docker did not answer within {seconds:g} s: {what}",
        hint="dockerd may hang or the host be overloaded; see `docker info` and dockerd's log",
        code="docker-timeout",
    )


def incomprehensible(what: str, problem: str) -> EngineFailure:
    """Return the error for an answer that no Docker gives."""
    return EngineFailure(
        f"Docker's answer makes no sense: {what}: {problem}",
        hint="something else may listen there, or a Docker that is not compatible",
        code="docker-incomprehensible",
    )


def refused(what: str, status: int, message: str) -> BhattiError:
    """Return the error for an HTTP status of 400 and above, with Docker's message."""
    text = f"Docker refused: {what}: {message}"
    if any(words in message for words in _NO_SPACE):
        return OutOfSpace(text, hint="free disk space where Docker keeps its data: docker system df", code="disk-full")
    if any(words in message for words in _NO_RUNTIME):
        return MissingDependency(
            text,
            hint="apt install runsc, and name it under `runtimes` in /etc/docker/daemon.json",
            code="runtime-missing",
        )
    match status:
        case 400:
            return InvalidRequest(
                text, hint="these are Docker's words; its documentation says what it takes", code="docker-refused"
            )
        case 404:
            return NotFound(
                text, hint="somebody has removed it from Docker; what is left can be removed", code="docker-not-found"
            )
        case 403 | 409:  # 403: a network that is in use
            return Conflict(
                text,
                hint="something else in Docker has it: `docker ps -a` and `docker network ls`",
                code="docker-conflict",
            )
        case _:
            return EngineFailure(text, hint="dockerd's log has more: journalctl -u docker", code="docker-refused")
