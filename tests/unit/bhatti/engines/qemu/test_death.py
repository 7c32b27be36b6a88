import os
import signal
from pathlib import Path

import pytest

from bhatti.engines.qemu import death
from bhatti.engines.qemu.process import Exit


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "console.log", tmp_path / "qemu.log"


@pytest.mark.parametrize(
    ("ended", "console", "qemu", "kind", "words"),
    [
        (Exit(status=0), "Kernel panic - not syncing: Attempted to kill init!", "", "guest-panic", "kill init"),
        (Exit(signal=signal.SIGKILL), "", "", "killed", "killed by SIGKILL"),
        (Exit(signal=signal.SIGBUS), "", "", "disk-full", "disk could not hold"),
        (Exit(signal=signal.SIGSEGV), "", "", "killed", "killed by SIGSEGV"),
        (Exit(status=0), "", "qemu: terminating on signal 15 from pid 7 (bash)", "killed", "from pid 7"),
        (Exit(status=0), "[  9.1] reboot: Power down\r\n", "", "exit", "powered itself off"),
        (Exit(signal=signal.SIGTERM), "[  9.1] reboot: System halted\r\n", "", "exit", "powered itself off"),
        (Exit(signal=signal.SIGKILL), "[  9.1] reboot: Power down\r\n[  0.0] Linux", "", "killed", "SIGKILL"),
        (Exit(status=0), "[  9.1] reboot: Restarting system\r\n", "", "exit", "rebooted"),
        (Exit(status=1), "", "x\nqemu: could not open disk\n", "exit", "exit status 1: qemu: could not open disk"),
        (Exit(status=1), "", "no instruction\nFirecracker exiting with error.\n", "exit", "1: no instruction"),
        (Exit(), "", "", "exit", "exit status unknown"),
        (Exit(status=0), "", "", "exit", "it said nothing"),
    ],
)
def test_a_death_is_explained(
    logs: tuple[Path, Path], ended: Exit, console: str, qemu: str, kind: str, words: str
) -> None:
    logs[0].write_text(console)
    logs[1].write_text(qemu)
    cause = death.cause_of_death(2**22 + 1, ended, *logs)
    assert cause.kind == kind
    assert words in cause.detail
    assert cause.console_tail == console.replace("\r\n", "\r\n")


def test_the_kernels_log_tells_of_a_lack_of_memory(
    logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pipe reads like the log: a record, then nothing more for now.
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    monkeypatch.setattr(death, "KMSG", pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, b"3,1,1,-;Out of memory: Killed process 4242 (qemu-system-x86) total-vm:9kB\n")
        cause = death.cause_of_death(4242, Exit(signal=signal.SIGKILL), *logs)
        assert (cause.kind, "4242 (qemu-system-x86)" in cause.detail) == ("oom", True)
        os.write(writer, b"3,1,1,-;Out of memory: Killed process 42421 (other)\n")
        assert death.cause_of_death(4242, Exit(signal=signal.SIGKILL), *logs).kind == "killed"
    finally:
        os.close(writer)


def test_an_unreadable_kernel_log_is_no_evidence(
    logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death, "KMSG", tmp_path / "none")
    assert death.cause_of_death(4242, Exit(signal=signal.SIGKILL), *logs).kind == "killed"


def test_the_tail_of_the_console_is_bounded(logs: tuple[Path, Path]) -> None:
    logs[0].write_text("x" * 10_000 + "end")
    tail = death.cause_of_death(2**22 + 1, Exit(status=0), *logs).console_tail
    assert len(tail) == death.TAIL_BYTES
    assert tail.endswith("end")
