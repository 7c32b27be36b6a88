from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.docker import boot_errors
from bhatti.errors import EngineFailure, GuestTimeout

SPEC = new_spec("box")


def test_a_death_at_the_start_is_told_with_the_last_output() -> None:
    output = "".join(f"line {number}\n" for number in range(20))
    error = boot_errors.died(SPEC, CauseOfDeath(kind="exit", detail="status 1", console_tail=output))
    assert isinstance(error, EngineFailure)
    assert error.code == "boot-failed"
    assert "'box'" in error.message
    assert "line 19" in error.message
    assert "line 3 " not in error.message


def test_want_of_memory_is_told_to_be_mended() -> None:
    error = boot_errors.died(SPEC, CauseOfDeath(kind="oom", detail="too much"))
    assert error.hint == "ask for more memory"
    assert "it said nothing" in error.message


def test_a_silent_agent_is_a_timeout() -> None:
    error = boot_errors.silent(SPEC, 30, "lohar: hm\n")
    assert isinstance(error, GuestTimeout)
    assert error.code == "boot-timeout"
    assert "30 s" in error.message
    assert "lohar: hm" in error.message
