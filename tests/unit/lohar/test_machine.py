import os
import signal
from pathlib import Path

import pytest
from tests.unit.lohar.isolated import run_isolated

from lohar.machine import (
    add_entropy,
    apply_hostname,
    ensure_machine_id,
    power_off,
    renew_machine_id,
    set_clock,
)

ROOT = pytest.mark.root


def test_the_hostname_is_written_where_programs_look_for_it(tmp_path: Path) -> None:
    apply_hostname("box", root=str(tmp_path))
    assert (tmp_path / "etc/hostname").read_text() == "box\n"
    assert "127.0.1.1 box\n" in (tmp_path / "etc/hosts").read_text()


@ROOT
def test_the_hostname_is_the_kernels_too(tmp_path: Path) -> None:
    printed = run_isolated(
        f"""
        import os
        from lohar import machine
        os.chroot("{tmp_path}")
        machine.apply_hostname("box-7")
        print(os.uname().nodename)
        """,
        "--uts",
    )
    assert printed == "box-7\n"


def test_a_machine_gets_an_id_once(tmp_path: Path) -> None:
    path = tmp_path / "etc/machine-id"
    ensure_machine_id(root=str(tmp_path))
    first = path.read_text()
    assert len(bytes.fromhex(first)) == 16
    ensure_machine_id(root=str(tmp_path))
    assert path.read_text() == first
    path.write_text("")  # as our base image has it
    ensure_machine_id(root=str(tmp_path))
    assert len(bytes.fromhex(path.read_text())) == 16


def test_a_fork_gets_another_id(tmp_path: Path) -> None:
    ids = set()
    for _ in range(3):
        renew_machine_id(root=str(tmp_path))
        ids.add((tmp_path / "etc/machine-id").read_text())
    assert len(ids) == 3


@ROOT
def test_entropy_is_taken_by_the_kernel() -> None:
    add_entropy(os.urandom(64))


@pytest.mark.parametrize("size", [0, 4097])
def test_entropy_has_bounds(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 4096 bytes"):
        add_entropy(b"x" * size)


def test_the_clock_of_a_machine_that_is_not_ours_is_refused() -> None:
    child = os.fork()
    if child == 0:
        # As an unprivileged user: the test must not set the host's clock, whoever runs it.
        try:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            set_clock(0)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_nobody_but_the_first_process_ends_the_machine() -> None:
    assert os.getpid() != 1
    with pytest.raises(PermissionError, match="first process"):
        power_off()


POWER_OFF = """
import os, signal, sys, time
from lohar import machine
marks = "{marks}"
def child(handler):
    ready, told = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, handler)
        os.write(told, b"x")
        while True:
            signal.pause()
    os.read(ready, 1)
def polite(*_):
    open(marks + "/polite", "w").close()
    os._exit(0)
child(polite)
{extra}
assert os.getpid() == 1
machine.power_off(grace_s=0.3)
"""


@ROOT
def test_processes_are_asked_to_end_before_the_power_goes(tmp_path: Path) -> None:
    # In a PID namespace, reboot(2) ends the namespace: its first process dies of SIGINT (pid_namespaces(7)).
    run_isolated(POWER_OFF.format(marks=tmp_path, extra=""), "--pid", "--fork", "--kill-child", expect=-signal.SIGINT)
    assert (tmp_path / "polite").exists()


@ROOT
def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    run_isolated(
        POWER_OFF.format(marks=tmp_path, extra="child(signal.SIG_IGN)"),
        "--pid",
        "--fork",
        "--kill-child",
        expect=-signal.SIGINT,
    )
    assert (tmp_path / "polite").exists()
