"""Whether the process of a container lives, asked of the kernel: Docker learns of a death some milliseconds later."""

import os
import select


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
