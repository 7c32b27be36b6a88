"""Telling systemd how the daemon does (sd_notify(3)), without its library."""

import contextlib
import os
import socket
from collections.abc import MutableMapping


def notify(state: str, env: MutableMapping[str, str] = os.environ) -> None:
    """Send `state` (`READY=1`) to whoever `NOTIFY_SOCKET` names, if anybody.

    The variable is taken out of `env`: processes that we start are not the service. Never raises: a service manager
    that has gone is no trouble of ours.
    """
    address = env.pop("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace of unix(7)
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)
