from tests.unit.bhatti.engines.qemu.test_record import SPEC

from bhatti.engines.base import CauseOfDeath
from bhatti.engines.qemu import boot_errors
from bhatti.errors import EngineFailure, GuestTimeout, OutOfSpace


def test_a_death_at_boot_tells_sandbox_reason_and_the_end_of_the_console() -> None:
    console = "\r\n".join(f"line {number}" for number in range(20))
    error = boot_errors.died(SPEC, CauseOfDeath(kind="guest-panic", detail="no root", console_tail=console))
    assert isinstance(error, EngineFailure)
    assert error.code == "boot-failed"
    assert error.message == (
        "sandbox 'box' died while it booted: no root; its console ends with: "
        "line 15 | line 16 | line 17 | line 18 | line 19"
    )


def test_before_a_panic_is_said_why_it_came_to_that() -> None:
    console = "init: no agent\r\n[ 4.1] Kernel panic - not syncing: Attempted to kill init!\r\n[ 4.2] RBP: 01\r\n"
    assert boot_errors.silent(SPEC, 1, console).message.endswith("; its console ends with: init: no agent")


def test_a_full_disk_at_boot_is_out_of_space() -> None:
    error = boot_errors.died(SPEC, CauseOfDeath(kind="disk-full", detail="SIGBUS"))
    assert isinstance(error, OutOfSpace)


def test_silence_tells_how_long_was_waited_and_what_could_be_done() -> None:
    error = boot_errors.silent(SPEC, 12.5, "")
    assert isinstance(error, GuestTimeout)
    assert "within 12.5 s; its console is empty" in error.message
    assert error.hint is not None
    assert "boot_timeout_s" in error.hint


def test_a_flood_on_the_console_does_not_flood_the_error() -> None:
    assert len(boot_errors.silent(SPEC, 1, "x" * 100_000).message) < 800
