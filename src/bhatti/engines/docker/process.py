"""The init of a container as the kernel knows it: Docker learns of a death later, and cannot give another name."""

import os
import select

from bhatti.images.programs import run_program


def has_ended(pid: int) -> bool:
    """Tell whether there is no such process, or only a zombie of it. Also true of one that cannot be seen from here."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        # A pidfd turns readable when the process ends (pidfd_open(2)).
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(descriptor)


def set_hostname(pid: int, name: str) -> None:
    """Name the machine that the process believes to be on (uts_namespaces(7)). Blocks for milliseconds; needs root.

    Raises `MissingDependency`, `EngineFailure`.
    """
    run_program(["nsenter", "--target", str(pid), "--uts", "--", "hostname", name])
