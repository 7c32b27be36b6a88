"""A machine's state to a file and back, by QEMU's migration.

The file's number is handed to QEMU over its monitor: its sandbox forbids it to start a program that would write, and
version 7.2 knows no `file:` address. Where the guest's memory is a shared mapping of a file, the memory is in that
file already and `x-ignore-shared` leaves it out: what is saved are the devices, some hundred KiB. A private mapping has
to go through the stream.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from bhatti.engines.qemu.qmp import Monitor
from bhatti.errors import EngineFailure

SAVE_TIMEOUT_S = 300.0
"""A full stream of some GiB on a slow disk; the devices alone take 10 ms."""

UNLIMITED_BANDWIDTH = 1 << 40
"""Bytes per second. QEMU's own limit, 128 MiB/s, is for networks that others use too."""

FINALIZE_POLL_S = 0.001
"""The main loop gets to it in its next turn."""

FILE_NAME = "state"
"""What QEMU calls the file that it is handed."""


async def save_state(monitor: Monitor, path: Path, *, with_memory: bool) -> None:
    """Write the state of a stopped machine to `path`, durably; the machine stays stopped.

    Raises `EngineFailure` (code `save-failed`) when QEMU cannot write it, and like `Monitor.execute`. Cancelling
    leaves QEMU at it: end it, or wait.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        await _prepare(monitor, with_memory=with_memory)
        await monitor.give_file(FILE_NAME, file)
        with monitor.events("MIGRATION") as events:
            await monitor.execute("migrate", {"uri": f"fd:{FILE_NAME}"})
            while (status := (await events.next(timeout_s=SAVE_TIMEOUT_S)).data["status"]) != "completed":
                if status in ("failed", "cancelled"):
                    raise await _failure(monitor)
        await finalized(monitor.execute)
    finally:
        os.close(file)


async def load_state(monitor: Monitor, path: Path, *, with_memory: bool) -> None:
    """Load a state into a machine started with `-incoming defer`; it is then stopped, as the saved one was.

    `with_memory` is what it was saved with. Raises `EngineFailure` (code `load-failed`), `FileNotFoundError`, and like
    `Monitor.execute`. A state that QEMU does not understand makes it end.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await _prepare(monitor, with_memory=with_memory)
        await monitor.give_file(FILE_NAME, file)
        with monitor.events("MIGRATION") as events:
            await monitor.execute("migrate-incoming", {"uri": f"fd:{FILE_NAME}"})
            while (status := (await events.next(timeout_s=SAVE_TIMEOUT_S)).data["status"]) != "completed":
                if status == "failed":
                    raise EngineFailure(f"qemu could not load {path}", code="load-failed")
    finally:
        os.close(file)


async def _prepare(monitor: Monitor, *, with_memory: bool) -> None:
    capabilities = [
        {"capability": "events", "state": True},
        {"capability": "x-ignore-shared", "state": not with_memory},
    ]
    await monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await monitor.execute("migrate-set-parameters", {"max-bandwidth": UNLIMITED_BANDWIDTH})


async def finalized(ask: Callable[[str], Awaitable[object]]) -> None:
    """Wait until QEMU has tidied up behind a migration: it refuses `cont` before, and tells nobody when it is done.

    `ask` gives an order to the monitor. Raises what it raises.
    """
    while True:
        seen = await ask("query-status")
        if not isinstance(seen, dict) or seen.get("status") != "finish-migrate":
            return
        await anyio.sleep(FINALIZE_POLL_S)


async def _failure(monitor: Monitor) -> EngineFailure:
    seen = await monitor.execute("query-migrate")
    words = seen.get("error-desc", "it does not say why") if isinstance(seen, dict) else "it does not say why"
    return EngineFailure(
        f"qemu could not save the machine's state: {words}", hint="is the host's disk full?", code="save-failed"
    )
