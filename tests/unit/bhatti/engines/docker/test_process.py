import os
import signal
import subprocess

from bhatti.engines.docker.process import has_ended


def test_a_process_has_ended_as_soon_as_it_is_a_zombie() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert not has_ended(process.pid)
        descriptor = os.pidfd_open(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
        os.close(descriptor)
        assert has_ended(process.pid)
    assert has_ended(process.pid)
