"""How many files and connections the daemon may have open."""

import resource

MOST = 1 << 20
"""What the service file asks for: more would be bookkeeping of the kernel's and nothing else."""


def allow_as_many_as_possible() -> int:
    """Raise our own bound to what the host allows us, and return it.

    A shell gives 1024 for the sake of programs that use select(2); every connection, terminal and sandbox takes some.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
