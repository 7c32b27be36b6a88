import os
import signal
import socket
import subprocess

import pytest

from bhatti.engines.docker.process import has_ended, set_hostname


def test_a_process_has_ended_as_soon_as_it_is_a_zombie() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert not has_ended(process.pid)
        descriptor = os.pidfd_open(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
        os.close(descriptor)
        assert has_ended(process.pid)
    assert has_ended(process.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a process another host name, which needs root")
def test_only_the_namespace_of_the_process_gets_the_name() -> None:
    before = socket.gethostname()
    command = ["unshare", "--uts", "sh", "-c", "echo ready; read go; hostname"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        set_hostname(process.pid, "another")
        assert process.communicate("go\n")[0] == "another\n"
    assert socket.gethostname() == before
