import pytest

from bhatti.engines.docker.api_types import ContainerState
from bhatti.engines.docker.death import cause_of_death, removed, was_removed


def ended(code: int, **changes: object) -> ContainerState:
    return ContainerState(status="exited", exit_code=code, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (ended(137, oom_killed=True), "oom", "128 MiB"),
        (ended(0, oom_killed=True), "exit", "status 0"),
        (ended(137), "killed", "SIGKILL"),
        (ended(143), "killed", "SIGTERM"),
        (ended(1), "exit", "status 1: last words"),
        (ended(0), "exit", "status 0"),
        (ended(255), "exit", "status 255"),
        (ended(128, error="exec format error"), "boot-failed", "exec format error"),
    ],
)
def test_the_cause_is_what_docker_knows(state: ContainerState, kind: str, words: str) -> None:
    cause = cause_of_death(state, 128, "first\nlast words\n")
    assert cause.kind == kind
    assert words in cause.detail
    assert cause.console_tail == "first\nlast words\n"


def test_a_removed_container_took_its_disk_along() -> None:
    assert removed().kind == "killed"
    assert "removed by hand" in removed().detail
    assert was_removed(removed("some output"))
    assert not was_removed(None)
    assert not was_removed(cause_of_death(ended(0), 128, ""))
