"""The guest's network, set by ioctl: no `ip` program is needed, which small images do not have.

Sources: netdevice(7), <linux/sockios.h>, <linux/route.h>, and for `ip=` Documentation/admin-guide/nfs/nfsroot.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct

from lohar.wire.fields import items, text
from lohar.wire.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INTERFACE = "eth0"

_SIOCADDRT = 0x890B
_SIOCDELRT = 0x890C
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCGIFADDR = 0x8915
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFHWADDR = 0x8924
_SIOCGIFHWADDR = 0x8927
_IFF_UP = 1
_RTF_UP_GATEWAY = 3
_ARPHRD_ETHER = 1
_ANY = "0.0.0.0"
_IFREQ_BYTES = 40


class Address(Record):
    """What the kernel's `ip=` argument says; empty where it says nothing."""

    address: str = text()
    gateway: str = text(default="")
    netmask: str = text(default="255.255.255.0")
    hostname: str = text(default="")
    interface: str = text(default=INTERFACE)
    dns: tuple[str, ...] = items(text(), default=())


def parse_ip_argument(cmdline: str) -> Address | None:
    """Return what `ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1` in a command line says.

    None when it is absent or gives no address (`ip=dhcp`, `ip=off`): then the network is left alone. With several, the
    last one counts.
    """
    words = [word[3:] for word in cmdline.split() if word.startswith("ip=")]
    if not words:
        return None
    fields = [*words[-1].split(":"), *[""] * 9]
    address, _, gateway, netmask, hostname, interface, _, *rest = fields
    if not is_ipv4(address):
        return None
    return Address(
        address=address,
        gateway=gateway if is_ipv4(gateway) else "",
        netmask=netmask if is_ipv4(netmask) else "255.255.255.0",
        hostname=hostname,
        interface=interface or INTERFACE,
        dns=tuple(server for server in rest[:2] if is_ipv4(server) and server != _ANY),
    )


def is_ipv4(text: str) -> bool:
    """Say whether `text` is an IPv4 address in dotted form."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True


def netmask_of(prefix: int) -> str:
    """Return the netmask of a prefix length (0 to 32)."""
    return socket.inet_ntoa(struct.pack(">I", (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF))


def bring_up_loopback() -> None:
    """Set `lo` up; the kernel gives it 127.0.0.1/8."""
    with _control() as control:
        control.add_flags("lo", _IFF_UP)


def apply_address(
    address: str, netmask: str, gateway: str = "", *, mac: str | None = None, interface: str = INTERFACE
) -> None:
    """Give the interface this address, and this only; set it up, and the default route with it.

    `mac` changes the hardware address first. `netmask` may be a prefix length. Idempotent. Raises `OSError` when there
    is no such interface or a value is refused.
    """
    if netmask.isdigit():
        netmask = netmask_of(int(netmask))
    with _control() as control:
        if mac is not None and control.mac(interface) != mac.lower():
            try:
                control.set_mac(interface, mac)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # Down, because not all drivers change the address of a running interface, as virtio's does; its routes
                # go with that, and it takes a fork a tenth of a second.
                control.remove_flags(interface, _IFF_UP)
                control.set_mac(interface, mac)
        control.set_address(_SIOCSIFADDR, interface, address)
        control.set_address(_SIOCSIFNETMASK, interface, netmask)
        control.add_flags(interface, _IFF_UP)
        with contextlib.suppress(ProcessLookupError):  # ESRCH: there was no default route
            control.route(_SIOCDELRT, None)
        if gateway:
            control.route(_SIOCADDRT, gateway)


class _Control:
    """The ioctls of one datagram socket, the handle that netdevice(7) works on."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def add_flags(self, interface: str, flags: int) -> None:
        self._set_flags(interface, self._flags(interface) | flags)

    def remove_flags(self, interface: str, flags: int) -> None:
        self._set_flags(interface, self._flags(interface) & ~flags)

    def set_address(self, request: int, interface: str, address: str) -> None:
        self._call(request, struct.pack("16s16s", interface.encode(), _sockaddr(address)))

    def set_mac(self, interface: str, mac: str) -> None:
        raw = bytes.fromhex(mac.replace(":", ""))
        self._call(_SIOCSIFHWADDR, struct.pack("16sH6s", interface.encode(), _ARPHRD_ETHER, raw))

    def mac(self, interface: str) -> str:
        answer = self._call(_SIOCGIFHWADDR, struct.pack("16s", interface.encode()))
        return answer[18:24].hex(":")

    def route(self, request: int, gateway: str | None) -> None:
        """Add or remove a default route; struct rtentry has padding around the three addresses."""
        flags = _RTF_UP_GATEWAY if gateway else 1
        entry = struct.pack(
            "L16s16s16sHhLPhPLLH", 0, _sockaddr(_ANY), _sockaddr(gateway or _ANY), _sockaddr(_ANY), flags,
            0, 0, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        _ioctl(self._handle, request, entry)

    def _flags(self, interface: str) -> int:
        answer = self._call(_SIOCGIFFLAGS, struct.pack("16s", interface.encode()))
        return int(struct.unpack_from("H", answer, 16)[0])

    def _set_flags(self, interface: str, flags: int) -> None:
        self._call(_SIOCSIFFLAGS, struct.pack("16sH", interface.encode(), flags))

    def _call(self, request: int, ifreq: bytes) -> bytes:
        return _ioctl(self._handle, request, ifreq.ljust(_IFREQ_BYTES, b"\0"))


@contextlib.contextmanager
def _control() -> Iterator[_Control]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        yield _Control(handle)


def _sockaddr(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _ioctl(handle: socket.socket, request: int, argument: bytes) -> bytes:
    import fcntl  # not on every platform that this module is imported on

    return fcntl.ioctl(handle.fileno(), request, argument)


def apply_dns(servers: Sequence[str], *, root: str = "/") -> None:
    """Make /etc/resolv.conf name these servers; with none, leave what the image has.

    It becomes a plain file: in many images it is a symbolic link to that of a resolver which does not run here.
    """
    if servers:
        replace_file(os.path.join(root, "etc/resolv.conf"), "".join(f"nameserver {server}\n" for server in servers))


def apply_hosts(hostname: str, *, root: str = "/") -> None:
    """Make /etc/hosts know this machine's own name, without which sudo and others wait for a resolver.

    Lines that somebody else wrote are kept.
    """
    path = os.path.join(root, "etc/hosts")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n") for line in file]
    except FileNotFoundError:
        lines = []
    kept = [line for line in lines if line.split()[:1] != ["127.0.1.1"]]
    if not any(line.split()[:1] == ["127.0.0.1"] for line in kept):
        kept = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *kept]
    own = f"127.0.1.1 {hostname}"
    text = "".join(f"{line}\n" for line in [*kept[:1], own, *kept[1:]])
    replace_file(path, text)


def replace_file(path: str, text: str) -> None:
    """Put a plain world-readable file at `path`, whatever was there; a failure leaves the old one.

    One that is plain and world-readable already is written over: these texts are shorter than a page, so that a reader
    sees the old or the new one, but for the moment in which a longer one is cut.
    """
    if _written_over(path, text.encode()):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.lohar"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _written_over(path: str, content: bytes) -> bool:
    """Write `content` over a plain file such as `replace_file` makes; say whether that could be done.

    ext4 writes a file that takes another one's place to the disk at once (ext4(5), auto_da_alloc): a guest that is
    told who it is would wait for that, four times 30 ms under emulation.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or about.st_mode & 0o7777 != 0o644:
            return False
        if about.st_size == len(content) and os.read(descriptor, len(content)) == content:
            return True
    finally:
        os.close(descriptor)
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content, 0)
        if about.st_size > len(content):
            os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
    return True
