"""One nft table of our own: guests reach the outside through the host, and nothing else through it.

The table is replaced as a whole in one transaction (`nft -f -`), so there is no moment with half of the rules and no
way to get them twice. Nobody else's tables are read or written. What our rules accept, another table may still drop:
nftables asks every base chain of a hook.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from bhatti.errors import EngineFailure, MissingDependency

NFT_TIMEOUT_S = 10.0
"""A replacement takes 10 ms; the kernel may hold the ruleset lock for others in between."""

TAPS = '"bht*"'
"""All taps of ours (`instance.tap_name`). On a bridge a packet comes from the bridge, not from its port."""

LINK_LOCAL = "169.254.0.0/16"
"""Where clouds tell a machine its own credentials (169.254.169.254 with Amazon, Google and Azure): the host's, and none
of its guests'. The name server of some is there as well, and may be asked."""

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """A bridge and the addresses behind it."""

    bridge: str
    subnet: IPv4Network

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return str(self.subnet.network_address + 1)


def render(table: str, networks: Sequence[GuestNetwork]) -> str:
    """Return the nft script that makes `table` be what these networks need, whatever it was before."""
    # A tap on no bridge is in quarantine: its guest answers the host, which speaks as its gateway, and nobody else.
    nat = [f"oifname {TAPS} accept"]
    forward = [f"iifname {TAPS} drop", f"oifname {TAPS} drop"]
    host = [f"iifname {TAPS} ct state established,related accept", f"iifname {TAPS} drop"]
    for network in networks:
        bridge = f'"{network.bridge}"'
        nat.append(f"ip saddr {network.subnet} oifname != {bridge} masquerade")
        forward += [
            # Between guests of one bridge; asked only where br_netfilter hands bridged packets to us.
            f"iifname {bridge} oifname {bridge} accept",
            f"iifname {bridge} ip saddr != {network.subnet} drop",
            f"iifname {bridge} meta nfproto ipv6 drop",
            f"iifname {bridge} ip daddr {LINK_LOCAL} meta l4proto {{ tcp, udp }} th dport != 53 drop",
            f"iifname {bridge} ip daddr {LINK_LOCAL} meta l4proto != {{ tcp, udp }} drop",
            *(f'iifname {bridge} oifname "{other.bridge}" drop' for other in networks if other is not network),
            f"oifname {bridge} ct state established,related accept",
            f"oifname {bridge} drop",
        ]
        host += [
            f"iifname {bridge} ct state established,related accept",
            # The gateway's address is the host as its guests may see it; its other addresses are none of theirs.
            f"iifname {bridge} ip saddr {network.subnet} ip daddr {network.gateway} accept",
            f"iifname {bridge} drop",
        ]
    chains = {
        "postrouting": ("type nat hook postrouting priority srcnat; policy accept;", nat),
        "forward": ("type filter hook forward priority filter; policy accept;", forward),
        "input": ("type filter hook input priority filter; policy accept;", host),
    }
    lines = [f"table inet {table}", f"delete table inet {table}", f"table inet {table} {{"]
    for name, (head, rules) in chains.items():
        lines += [f"  chain {name} {{", f"    {head}", *(f"    {rule}" for rule in rules), "  }"]
    return "\n".join([*lines, "}", ""])


def replace_table(table: str, networks: Sequence[GuestNetwork]) -> None:
    """Put the rules for `networks` in force, all at once."""
    _nft("-f", "-", script=render(table, networks))


def remove_table(table: str) -> None:
    """Delete the table. Nothing happens if there is none."""
    _nft("-f", "-", script=f"table inet {table}\ndelete table inet {table}\n")


def table_exists(table: str) -> bool:
    """Return whether the kernel has the table now."""
    return f"table inet {table}\n" in _nft("list", "tables", script="") + "\n"


def enable_forwarding() -> None:
    """Let the kernel route between interfaces.

    It is one switch for the whole host. It is turned on when a guest needs it and never off again: others may have
    come to rely on it. Raises `EngineFailure` where /proc/sys cannot be written.
    """
    if IP_FORWARD.read_text().strip() == "1":
        return
    try:
        IP_FORWARD.write_text("1\n")
    except OSError as error:
        raise EngineFailure(
            f"cannot turn IP forwarding on: {error}",
            hint="sysctl -w net.ipv4.ip_forward=1 on the host, then try again",
            code="network-failure",
        ) from error


def find_nft() -> str:
    """Return the path of `nft`. Raises `MissingDependency`."""
    found = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise MissingDependency("the program nft is not installed", hint="apt install nftables")
    return found


def _nft(*arguments: str, script: str) -> str:
    """Run nft and return what it printed; raise `EngineFailure` with its own words, or because it had none."""
    try:
        done = subprocess.run(
            [find_nft(), *arguments], input=script, capture_output=True, text=True, timeout=NFT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailure(
            f"nft was not done with our table within {NFT_TIMEOUT_S:g} s",
            hint="something else may hold the rules of this host; see `nft list ruleset`",
            code="network-failure",
        ) from error
    if done.returncode:
        raise EngineFailure(
            f"nft refused our table: {done.stderr.strip()[:500]}",
            hint="see `nft list ruleset`; the kernel needs nf_tables and NAT",
            code="network-failure",
        )
    return done.stdout
