"""What the engine writes down about a machine, so that the next daemon's engine finds it again.

A record is replaced atomically, so it is always whole. It holds the guest's token: only the owner can read it.
"""

import enum
import os
import threading
from pathlib import Path

import msgspec

from bhatti.engines import records
from bhatti.engines.base import CauseOfDeath
from bhatti.engines.qemu.process import ProcessIdentity
from bhatti.model.sandbox import SandboxSpec

RECORD_FILE = "machine.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Phase(enum.StrEnum):
    """How far a machine has come, and what the next engine does about it.

    `creating` and `destroying` mean: undo, finish. `stopping`: if it still lives, it goes on running. `starting`: it is
    stopped again, its snapshot untouched. `restored`: its snapshot is spent and it may have run; the rest of the start
    is done again. `casting`: it may be halted, for a copy of it; it goes on running.
    """

    CREATING = "creating"
    RUNNING = "running"
    CASTING = "casting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    RESTORED = "restored"
    FAILED = "failed"
    DESTROYING = "destroying"


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that QEMU was last told to be, so far as the request and the host do not say it.

    `drives` are paths (of an empty slot: none) and whether they are read-only, in the guest's order. `private` says
    that the memory is mapped privately from another machine's: it is in no file of this one.
    """

    kernel: str
    initramfs: str
    kernel_arguments: str
    drives: tuple[tuple[str, bool], ...]
    private: bool = False


class MachineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that cannot be asked of the process itself.

    `pid` and `start_time` are of the process (0: none yet), valid while the host's boot id is `boot_id`; `forwards`
    maps guest ports to ports of the host's loopback (user-mode network); `created_at` is in seconds since the epoch.
    `tracked` says that the memory file is what the machine's memory was when its changes began to be counted.
    `no_memory` says why a stopped machine has no memory to come back with; `generation` counts its identities. `body`
    is the name that directory, process and tap have where it is not the id: in a machine that was made ready before.
    """

    version: int = 1
    phase: Phase
    spec: SandboxSpec
    boot_id: str
    created_at: float
    pid: int = 0
    start_time: int = 0
    network: str = ""
    address: str = ""
    forwards: dict[int, int] = {}
    accelerator: str = ""
    frame: Frame | None = None
    no_memory: str = ""
    generation: int = 0
    tracked: bool = False
    body: str = ""
    agent: str = ""
    how: str = "booted"
    why: str = ""
    timings_ms: dict[str, float] = {}
    cause: CauseOfDeath | None = None

    def identity(self, boot_id: str) -> ProcessIdentity | None:
        """Return the process, if there ever was one in the life of the host that `boot_id` stands for."""
        if not self.pid or self.boot_id != boot_id:
            return None
        return ProcessIdentity(self.pid, self.start_time)


def wreck(sandbox_id: str, detail: str) -> MachineRecord:
    """Return a stand-in for a record that cannot be read: enough to show the machine and to destroy it."""
    cause = CauseOfDeath(kind="host-crash", detail=detail)
    return MachineRecord(phase=Phase.FAILED, spec=records.nobody(sandbox_id), boot_id="", created_at=0.0, cause=cause)


def host_boot_id() -> str:
    """Return what is different after each boot of the host."""
    return BOOT_ID.read_text().strip()


def write_record(directory: Path, record: MachineRecord) -> None:
    """Replace the record in `directory`, all at once.

    It survives us, not a power cut: to wait for the disk here would be to wait for every page that the guest has
    touched, since the file system orders its journal behind them (0.5 s measured). After a power cut no machine is
    there to be found again, and a record that came to be empty is taken for what it is.
    """
    # Of this thread alone: a machine that dies while it is stopped is written by two.
    temporary = directory / f"{RECORD_FILE}.{threading.get_native_id()}.new"
    try:
        # All of it or an error: on a disk that is nearly full, one call may write a part.
        with open(temporary, "wb", opener=_for_owner) as file:
            file.write(msgspec.json.encode(record))
        temporary.replace(directory / RECORD_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_record(directory: Path) -> MachineRecord | None:
    """Return the record, or None if there is none. Raises `CorruptData` (code `record-corrupt`)."""
    return records.read(directory / RECORD_FILE, MachineRecord)
