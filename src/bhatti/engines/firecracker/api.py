"""Orders to a running Firecracker over its API socket, one method per order that this engine gives.

Source: https://github.com/firecracker-microvm/firecracker/tree/main/docs/api_requests and the OpenAPI document beside
the sources. An order that Firecracker refuses changes nothing. Every method raises `EngineFailure` (code
`firecracker-refused`) with its words, `OutOfSpace` when they are about a full disk, `Unavailable` (code
`firecracker-silent`) when nobody answers, and `EngineFailure` (code `firecracker-incomprehensible`).
"""

import asyncio
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import anyio
import msgspec

from bhatti.engines.firecracker import api_types as types
from bhatti.engines.unix_socket import open_socket
from bhatti.errors import BhattiError, EngineFailure, OutOfSpace, Unavailable
from bhatti.http1 import Head, ProtocolViolation, ResponseParser, request_head

QUICK_S = 10.0
"""An order that changes a setting: about 1 ms."""

START_S = 60.0
"""The machine's start reads kernel and initramfs: 30 ms from the page cache. Of two that started at once on an emulated
processor, one took longer than 10 s."""

SNAPSHOT_S = 300.0
"""A full snapshot of some GiB on a slow disk."""

MAX_ANSWER_BYTES = 1 << 20
READ_BYTES = 64 << 10
FULL_DISK = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")

T = TypeVar("T")


class FirecrackerApi:
    """The orders. Nothing is open between two of them: a new connection costs 50 us, and none can turn out dead."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # --- before the machine starts

    async def boot_source(self, source: types.BootSource) -> None:
        """Say what to boot."""
        await self._order("PUT", "/boot-source", source)

    async def machine_config(self, configuration: types.MachineConfiguration) -> None:
        """Say how many processors and how much memory."""
        await self._order("PUT", "/machine-config", configuration)

    async def drive(self, drive: types.Drive) -> None:
        """Add a drive behind those that are there."""
        await self._order("PUT", f"/drives/{quote(drive.drive_id, safe='')}", drive)

    async def network_interface(self, card: types.NetworkInterface) -> None:
        """Add a network card."""
        await self._order("PUT", f"/network-interfaces/{quote(card.iface_id, safe='')}", card)

    async def entropy(self, device: types.EntropyDevice) -> None:
        """Give the guest random numbers of the host's."""
        await self._order("PUT", "/entropy", device)

    async def balloon(self, balloon: types.Balloon) -> None:
        """Give the guest a way to hand memory back."""
        await self._order("PUT", "/balloon", balloon)

    async def vsock(self, device: types.Vsock) -> None:
        """Give the guest ports that are reached over a unix socket."""
        await self._order("PUT", "/vsock", device)

    async def start(self) -> None:
        """Let the machine boot."""
        await self._order("PUT", "/actions", types.Action(action_type="InstanceStart"), timeout_s=START_S)

    async def load(self, snapshot: types.SnapshotLoad) -> None:
        """Make the machine one that was saved, paused unless `resume_vm`. Cancelling leaves Firecracker at it."""
        await self._order("PUT", "/snapshot/load", snapshot, timeout_s=SNAPSHOT_S)

    # --- while it runs

    async def pause(self) -> None:
        """Halt the processors; nothing happens if they are."""
        await self._order("PATCH", "/vm", types.VmState(state="Paused"))

    async def resume(self) -> None:
        """Let the processors run; nothing happens if they do."""
        await self._order("PATCH", "/vm", types.VmState(state="Resumed"))

    async def save(self, snapshot: types.SnapshotCreate) -> None:
        """Write a paused machine's state and memory. Cancelling leaves Firecracker at it: end it, or wait."""
        await self._order("PUT", "/snapshot/create", snapshot, timeout_s=SNAPSHOT_S)

    async def info(self, *, timeout_s: float = QUICK_S) -> types.InstanceInfo:
        """Return which instance this is and whether it runs. Safe to cancel."""
        return await self._ask(types.InstanceInfo, "/", timeout_s)

    async def balloon_statistics(self, *, timeout_s: float = QUICK_S) -> types.BalloonStatistics:
        """Return what the guest of a machine with a balloon says of its memory. Safe to cancel."""
        return await self._ask(types.BalloonStatistics, "/balloon/statistics", timeout_s)

    async def version(self) -> str:
        """Return Firecracker's version. Safe to cancel."""
        return (await self._ask(types.Version, "/version", QUICK_S)).firecracker_version

    async def wait_ready(self, *, timeout_s: float) -> types.InstanceInfo:
        """Wait until a Firecracker that was just started answers. Safe to cancel."""
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    try:
                        return await self.info(timeout_s=timeout_s)
                    except Unavailable:
                        # It makes the socket itself and tells nobody, 10 ms after its start.
                        await anyio.sleep(0.005)
        except TimeoutError as error:
            raise Unavailable(
                f"firecracker made no API socket at {self.path} within {timeout_s:g} s", code="firecracker-silent"
            ) from error

    async def _order(self, method: str, path: str, body: types.Request, *, timeout_s: float = QUICK_S) -> None:
        await self._exchange(method, path, msgspec.json.encode(body), timeout_s)

    async def _ask(self, expected: type[T], path: str, timeout_s: float) -> T:
        answer = await self._exchange("GET", path, b"", timeout_s)
        try:
            return msgspec.json.decode(answer, type=expected)
        except msgspec.DecodeError as error:
            raise _incomprehensible(f"GET {path}", str(error)) from error

    async def _exchange(self, method: str, path: str, body: bytes, timeout_s: float) -> bytes:
        """Return the body of the answer to one order."""
        what = f"{method} {path}"
        try:
            with anyio.fail_after(timeout_s):
                connection = await anyio.to_thread.run_sync(open_socket, self.path)
                with connection:
                    head, answer = await _converse(connection, method, path, body)
        except TimeoutError as error:
            raise Unavailable(
                f"firecracker did not answer {what} within {timeout_s:g} s", code="firecracker-silent"
            ) from error
        except ProtocolViolation as error:
            raise _incomprehensible(what, str(error)) from error
        except OSError as error:
            raise Unavailable(
                f"no firecracker answers at {self.path}: {error.strerror}", code="firecracker-silent"
            ) from error
        if head.status >= 400:
            raise refused(what, answer)
        return answer


def refused(what: str, answer: bytes) -> BhattiError:
    """Return the error for an order that Firecracker refused with the body `answer`."""
    try:
        words = msgspec.json.decode(answer, type=types.Fault).fault_message
    except msgspec.DecodeError:
        words = answer[:300].decode(errors="replace")
    if any(mark in words for mark in FULL_DISK):
        return OutOfSpace(f"firecracker ran out of disk space at {what}: {words}", hint="free disk space")
    return EngineFailure(f"firecracker refused {what}: {words}", code="firecracker-refused")


async def _converse(connection: socket.socket, method: str, path: str, body: bytes) -> tuple[Head, bytes]:
    headers = [("Host", "localhost"), ("Accept", "application/json")]
    if body:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, request_head(method, path, headers) + body)
    parser = ResponseParser(method)
    answer = b""
    while not parser.done:
        data = await loop.sock_recv(connection, READ_BYTES)
        if not data:
            parser.feed_eof()
            break
        answer += b"".join(parser.feed(data))
        if len(answer) > MAX_ANSWER_BYTES:
            raise ProtocolViolation(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    assert parser.head is not None
    return parser.head, answer


def _incomprehensible(what: str, why: str) -> EngineFailure:
    return EngineFailure(
        f"the answer to {what} cannot be understood: {why}",
        hint="is the program that `firecracker.binary` names a Firecracker?",
        code="firecracker-incomprehensible",
    )
