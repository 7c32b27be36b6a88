"""The kernel's command line for our guests, each word with its reason.

Measured under emulation (TCG, `max` processor, one CPU), guest kernel 6.1, from the kernel's first instruction to the
agent's ready line: 4.7 s without the words of `EMULATED`, 2.7 s with them on `q35`. The machine type matters as much:
on `pc` the kernel evaluates an AML loop for the interrupt of every PCI device, 110 ms each; on `q35` that is a table.
"""

from collections.abc import Sequence

CONSOLE = ("console=ttyS0", "quiet")
"""The console is for boot messages and the agent's ready line; each printed line costs emulated port writes."""

END = ("panic=-1", "reboot=t")
"""A guest that dies ends its machine at once (triple fault, no firmware), so that the engine sees it."""

SECURITY = ("lsm=landlock",)
"""Programs sandbox themselves with Landlock. The others Debian builds in have no policy here and cost every call."""

EMULATED = (
    "mitigations=off",  # side channels between processors do not exist in an emulator
    "noreplace-smp",  # with one CPU the kernel would patch out thousands of lock prefixes, 200 ms
    "cryptomgr.notests",  # the self-tests of ciphers, 250 ms
    "no_timer_check",  # a timer that starts late on a busy host is no broken timer
    "tsc=reliable",  # nor is a clock that stood still while the host did something else
)
"""What only an emulated processor needs."""


def kernel_arguments(
    *, address: str, gateway: str, netmask: str, hostname: str, dns: Sequence[str] = (), emulated: bool
) -> str:
    """Return the kernel's command line.

    The addresses go into `ip=` in the kernel's own syntax (Documentation/admin-guide/nfs/nfsroot.rst), which the agent
    applies where the kernel does not. `dns` may name two servers there, all of them in the config drive. `emulated`
    says that the guest's processor is software (TCG).
    """
    first, second = [*dns[:2], "", ""][:2]
    network = f"ip={address}::{gateway}:{netmask}:{hostname}:eth0:off:{first}:{second}"
    return " ".join((*CONSOLE, *END, *SECURITY, *(EMULATED if emulated else ()), network))
