"""The kernel's command line for our guests, each word with its reason."""

from collections.abc import Sequence

CONSOLE = ("console=ttyS0", "quiet")
"""The console is for boot messages and the agent's ready line; each printed line costs emulated port writes."""

END = ("panic=-1", "reboot=t")
"""A guest that dies ends its machine at once (triple fault, no ACPI), so that the engine sees it."""


def kernel_arguments(
    *, address: str, gateway: str, netmask: str, hostname: str, dns: Sequence[str] = (), emulated: bool
) -> str:
    """Return the kernel's command line.

    The addresses go into `ip=` in the kernel's own syntax (Documentation/admin-guide/nfs/nfsroot.rst), which the agent
    applies where the kernel does not. `dns` may name two servers there, all of them in the config drive. `emulated`
    says that the guest's processor is software (TCG).
    """
    servers = [*dns[:2], "", ""][:2]
    ip = f"ip={address}::{gateway}:{netmask}:{hostname}:eth0:off:{servers[0]}:{servers[1]}"
    return " ".join((*CONSOLE, *END, *(EMULATED if emulated else ()), ip))


EMULATED = ("mitigations=off", "no_timer_check", "tsc=reliable")
"""Side channels do not exist in an emulator; its timer works or nothing does; its clock needs no watchdog."""
