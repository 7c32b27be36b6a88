"""An engine without virtual machines: a machine is the real agent as a process of the host, on unix sockets.

It keeps every promise of `engines.base` (records to adopt by, causes of death, nothing left after a failure), so that
everything above engines can be tested in milliseconds. A machine that is stopped, or paused, is a stopped process
(SIGSTOP), whose memory stays where it is; a file beside it says which of both. Forks and checkpoints are copies of the
home directory: there is no memory in them. Its images are the ways in which a machine can go:

    base      the agent
    dies      a process that says its last words and exits
    silent    a process that never answers
    mute      the same, but it is waited for: to be made for as long as a test likes
    missing   not there
    corrupt   there, but damaged
    full      no space to make one
"""

import builtins
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread

from bhatti.engines.base import (
    Capabilities,
    CauseOfDeath,
    Checkpoint,
    Engine,
    Machine,
    ProgressCallback,
    SnapshotReport,
)
from bhatti.engines.deaths import Deaths
from bhatti.engines.volume_files import VolumeFiles
from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    GuestTimeout,
    InvalidRequest,
    NotFound,
    OutOfSpace,
)
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.transports import UnixTransport
from bhatti.model.sandbox import GuestFile, SandboxSpec, Status, Temperature, checked_name

BOOT_S = 60.0
SILENT_S = 0.3
GRACE_S = 5.0

PROGRAMS = {
    "base": [sys.executable, str(Path(__file__).with_name("guest.py"))],
    "dies": ["sh", "-c", "echo 'Kernel panic - not syncing: as this image does'; exit 3"],
    "silent": ["sleep", "600"],
    "mute": ["sleep", "600"],
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside a machine to find it again."""

    id: str
    pid: int
    started: str
    created: float
    image: str


class LocalEngine(Engine):
    """Machines that are processes. Its one setting is the daemon's state directory."""

    name = "local"

    def __init__(self, state_dir: Path) -> None:
        self._directory = Path(state_dir) / "m"
        self._volumes = VolumeFiles(Path(state_dir) / "volumes")
        self._deaths = Deaths()
        self._records: dict[str, Record] = {}
        self._links: dict[str, GuestLink] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._gone: set[str] = set()
        self._warm: set[str] = set()
        self._forgetful: set[str] = set()
        self.needed: frozenset[Path] | None = frozenset()
        self.starts = 0
        self.pauses = 0
        self.resumes = 0
        self.stops = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            own_kernel=False,
            pause=True,
            memory_snapshot=True,
            fork=True,
            bridge_network=False,
            rootless=True,
        )

    async def needed_files(self) -> frozenset[Path]:
        if self.needed is None:
            raise Busy("a sandbox is coming up", hint="try again in a moment")
        return self.needed

    @property
    def deaths(self) -> Deaths:
        """It watches none of its processes: the test tells."""
        return self._deaths

    @property
    def volumes(self) -> VolumeFiles:
        return self._volumes

    async def aclose(self) -> None:
        for link in self._links.values():
            await link.aclose()
        self._links.clear()

    async def adopt(self) -> list[Machine]:
        await to_thread.run_sync(self._read_records)
        return [await self.status(sandbox_id) for sandbox_id in self._records]

    def _read_records(self) -> None:
        for directory in sorted(self._directory.glob("*")):
            try:
                record = msgspec.json.decode((directory / "machine.json").read_bytes(), type=Record)
            except FileNotFoundError:
                for pid in _processes_of(directory):  # killed between making the machine and writing it down
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(directory)
                continue
            self._records[record.id] = record
            if (directory / "warm").exists():
                self._warm.add(record.id)
            if _start_time(record.pid) != record.started:
                self._gone.add(record.id)

    async def create(self, spec: SandboxSpec, *, progress: ProgressCallback | None = None) -> Machine:
        _check_image(spec.image)
        for volume in spec.volumes:  # not mounted, but looked at
            await to_thread.run_sync(self._volumes.find, volume.name)
        return await self._make(spec, None, "booted", progress)

    async def _make(self, spec: SandboxSpec, home: Path | None, how: str, progress: ProgressCallback | None) -> Machine:
        """Make a machine, with a copy of `home` if there is one."""
        report = progress or (lambda stage: None)
        report("layer")
        directory = self._directory / spec.id
        try:
            report("boot")
            process = await to_thread.run_sync(self._start, spec, directory, home)
            report("agent")
            await self._wait_ready(spec, directory, process)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._remove(spec.id)
            raise
        return msgspec.structs.replace(await self.status(spec.id), how=how)

    async def fork(
        self,
        source_id: str,
        spec: SandboxSpec,
        *,
        checkpoint: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Machine:
        self._record(source_id)
        directory = self._directory / source_id
        home = directory / "home" if checkpoint is None else self._checkpoint(source_id, checkpoint)
        if checkpoint is None:
            self.link(source_id)
        return await self._make(spec, home, "forked", progress)

    async def checkpoint(self, sandbox_id: str, name: str) -> Checkpoint:
        self.link(sandbox_id)
        target = self._directory / sandbox_id / "checkpoints" / checked_name(name)
        if target.exists():
            raise Conflict(f"there is a checkpoint {name!r}", hint="choose another name", code="checkpoint-exists")
        await to_thread.run_sync(_copy_whole, self._directory / sandbox_id / "home", target)
        return _describe(target)

    async def checkpoints(self, sandbox_id: str) -> builtins.list[Checkpoint]:
        self._record(sandbox_id)
        found = (self._directory / sandbox_id / "checkpoints").glob("[!.]*")
        return sorted((_describe(path) for path in found), key=lambda one: one.created_at)

    async def remove_checkpoint(self, sandbox_id: str, name: str) -> None:
        await to_thread.run_sync(shutil.rmtree, self._checkpoint(sandbox_id, name))

    async def restore_checkpoint(
        self, sandbox_id: str, name: str, *, progress: ProgressCallback | None = None
    ) -> Machine:
        record, kept = self._record(sandbox_id), self._checkpoint(sandbox_id, name)
        directory = self._directory / sandbox_id
        if (link := self._links.pop(sandbox_id, None)) is not None:
            await link.aclose()
        with anyio.CancelScope(shield=True):
            if self._alive(record):
                await self._end(record)
            await to_thread.run_sync(shutil.rmtree, directory / "home")
            for name_of_socket in ("c", "f"):
                (directory / name_of_socket).unlink(missing_ok=True)
            spec = SandboxSpec(
                id=sandbox_id, name=sandbox_id, image=record.image, cpus=1, memory_mib=128, disk_mib=1, token=""
            )
            self._gone.discard(sandbox_id)
            process = await to_thread.run_sync(self._start, spec, directory, kept)
            await self._wait_ready(spec, directory, process)
        return msgspec.structs.replace(await self.status(sandbox_id), how="restored")

    async def verify_snapshot(self, sandbox_id: str, *, content: bool = False, probe: bool = False) -> SnapshotReport:
        machine = await self.status(sandbox_id)
        return SnapshotReport(usable=machine.status is Status.STOPPED, detail="it is where it was", probed=probe)

    def _checkpoint(self, sandbox_id: str, name: str) -> Path:
        found = self._directory / self._record(sandbox_id).id / "checkpoints" / checked_name(name)
        if not found.exists():
            raise NotFound(f"there is no checkpoint {name!r}", code="checkpoint-not-found")
        return found

    async def destroy(self, sandbox_id: str) -> None:
        self._record(sandbox_id)
        with anyio.CancelScope(shield=True):
            await self._remove(sandbox_id)

    async def status(self, sandbox_id: str) -> Machine:
        record = self._record(sandbox_id)
        if self._alive(record):
            warm = sandbox_id in self._warm
            if not warm and await to_thread.run_sync(_state, record.pid) == "T":
                return Machine(id=record.id, status=Status.STOPPED, temperature=Temperature.COLD, why="stopped")
            return Machine(
                id=record.id,
                status=Status.RUNNING,
                temperature=Temperature.WARM if warm else Temperature.HOT,
                address="127.0.0.1",
                pid=record.pid,
                accelerator="none",
                timings_ms={"agent": 1.0},
            )
        child = self._children.get(sandbox_id)
        detail = f"the agent ended with {child.returncode}" if child else "the agent is gone"
        console = await to_thread.run_sync(lambda: self.console(sandbox_id, max_bytes=4096))
        cause = CauseOfDeath(kind="exit", detail=detail, console_tail=console)
        return Machine(id=record.id, status=Status.FAILED, temperature=Temperature.COLD, cause=cause)

    async def pause(self, sandbox_id: str) -> Machine:
        self.pauses += 1
        if sandbox_id not in self._warm:
            self.link(sandbox_id)  # raises if it is cold
            self._warm.add(sandbox_id)
            await to_thread.run_sync((self._directory / sandbox_id / "warm").touch)
            await self._signal(sandbox_id, signal.SIGSTOP, "T")
        return await self.status(sandbox_id)

    async def resume(self, sandbox_id: str) -> Machine:
        self.resumes += 1
        if sandbox_id in self._warm:
            await self._signal(sandbox_id, signal.SIGCONT, "SRD")
            await self._forget_pause(sandbox_id)
            await self.link(sandbox_id).resumed(keep_connections=True)
        return await self.status(sandbox_id)

    async def _forget_pause(self, sandbox_id: str) -> None:
        self._warm.discard(sandbox_id)
        await to_thread.run_sync(lambda: (self._directory / sandbox_id / "warm").unlink(missing_ok=True))

    async def stop(self, sandbox_id: str, *, memory: bool = True) -> Machine:
        self.stops += 1
        if (link := self._links.pop(sandbox_id, None)) is not None:
            await link.aclose()
        await self._signal(sandbox_id, signal.SIGSTOP, "T")
        await self._forget_pause(sandbox_id)
        if not memory:
            self._forgetful.add(sandbox_id)
        return await self.status(sandbox_id)

    async def start(
        self, sandbox_id: str, *, require_memory: bool = False, progress: ProgressCallback | None = None
    ) -> Machine:
        if require_memory and sandbox_id in self._forgetful:
            raise Conflict("it was stopped without its memory", hint="start it without", code="memory-lost")
        self._forgetful.discard(sandbox_id)
        self.starts += 1
        await self._signal(sandbox_id, signal.SIGCONT, "SRD")
        return msgspec.structs.replace(await self.status(sandbox_id), how="restored")

    async def _signal(self, sandbox_id: str, number: int, states: str) -> None:
        """Send a signal to the machine's process, which need not be our child, and wait until it is in such a state."""
        pid = self._record(sandbox_id).pid
        os.kill(pid, number)
        with anyio.fail_after(GRACE_S):
            while (state := await to_thread.run_sync(_state, pid)) not in states:
                if state in ("", "Z"):
                    raise EngineFailure(f"machine {sandbox_id} has died")
                await anyio.sleep(0.001)

    async def list(self) -> list[Machine]:
        found = []
        for record in sorted(self._records.values(), key=lambda one: one.created):
            with contextlib.suppress(NotFound, FileNotFoundError):  # removed while we looked at those before it
                found.append(await self.status(record.id))
        return found

    def link(self, sandbox_id: str) -> GuestLink:
        record = self._record(sandbox_id)
        if not self._alive(record) or sandbox_id in self._warm:
            raise Conflict(f"machine {sandbox_id} does not run", code="not-running")
        if sandbox_id not in self._links:
            directory = self._directory / sandbox_id
            self._links[sandbox_id] = GuestLink(UnixTransport(directory / "c", directory / "f"))
        return self._links[sandbox_id]

    def console(self, sandbox_id: str, *, max_bytes: int = 65_536) -> str:
        return (self._directory / sandbox_id / "console").read_bytes()[-max_bytes:].decode(errors="replace")

    def _record(self, sandbox_id: str) -> Record:
        try:
            return self._records[sandbox_id]
        except KeyError:
            raise NotFound(f"no machine {sandbox_id}") from None

    def _start(self, spec: SandboxSpec, directory: Path, home: Path | None) -> "subprocess.Popen[bytes]":
        directory.mkdir(parents=True, exist_ok=True)
        if home is not None:
            shutil.copytree(home, directory / "home", symlinks=True)
        process = self._children[spec.id] = self._spawn(spec, directory)
        started = _start_time(process.pid) or ""
        record = Record(id=spec.id, pid=process.pid, started=started, created=time.time(), image=spec.image)
        _write(directory / "machine.json", msgspec.json.encode(record))
        self._records[spec.id] = record
        return process

    def _spawn(self, spec: SandboxSpec, directory: Path) -> "subprocess.Popen[bytes]":
        sockets = {"LOHAR_TEST": "1", "LOHAR_SOCK": str(directory / "c"), "LOHAR_FWD_SOCK": str(directory / "f")}
        home = directory / "home"
        home.mkdir(exist_ok=True)
        # In a file and not in an argument: what is in there may be secret, and arguments are for all to see.
        _write(directory / "env", json.dumps(dict(spec.env)).encode())
        for file in spec.files:
            _write_inside(home, file)
        arguments = [str(home), str(directory / "env")] if spec.image == "base" else []
        with (directory / "console").open("wb") as console:
            return subprocess.Popen(
                [*PROGRAMS[spec.image], *arguments],
                env={**os.environ, **sockets},
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    async def _wait_ready(self, spec: SandboxSpec, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        link = self._links[spec.id] = GuestLink(UnixTransport(directory / "c", directory / "f"))
        if spec.image == "dies":
            await to_thread.run_sync(process.wait)
            console = await to_thread.run_sync(self.console, spec.id)
            raise EngineFailure(f"the machine ended with {process.returncode}: {console.strip()}")
        try:
            await link.wait_ready(timeout_s=SILENT_S if spec.image == "silent" else BOOT_S)
        except GuestTimeout as err:
            raise GuestTimeout(f"sandbox {spec.name!r} never answered", hint="look at its console") from err

    def _alive(self, record: Record) -> bool:
        if (child := self._children.get(record.id)) is not None:
            return child.poll() is None
        if record.id not in self._gone:
            try:
                os.kill(record.pid, 0)
            except ProcessLookupError:
                self._gone.add(record.id)
        return record.id not in self._gone

    async def _remove(self, sandbox_id: str) -> None:
        if (link := self._links.pop(sandbox_id, None)) is not None:
            await link.aclose()
        record = self._records.pop(sandbox_id, None)
        self._warm.discard(sandbox_id)
        if record is not None and self._alive(record):
            await self._end(record)
        self._children.pop(sandbox_id, None)
        await to_thread.run_sync(lambda: shutil.rmtree(self._directory / sandbox_id, ignore_errors=True))

    async def _end(self, record: Record) -> None:
        """Ask, wait, kill, reap."""
        descriptor = os.pidfd_open(record.pid)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
                    signal.pidfd_send_signal(descriptor, signal.SIGCONT)  # a stopped one sees no signal but SIGKILL
                if await _ended(descriptor, GRACE_S):
                    break
        finally:
            os.close(descriptor)
        if (child := self._children.get(record.id)) is not None:
            await to_thread.run_sync(child.wait)


async def _ended(descriptor: int, timeout_s: float) -> bool:
    """Wait until the process of a pidfd has ended; say whether it has."""
    with anyio.move_on_after(timeout_s):
        await anyio.wait_readable(descriptor)
        return True
    return False


def _check_image(image: str) -> None:
    if image == "corrupt":
        raise CorruptData("the files of image 'corrupt' are damaged", hint="bhatti image build", code="image-corrupt")
    if image == "full":
        raise OutOfSpace("no space for the layer", hint="free some space")
    if image not in PROGRAMS:
        raise NotFound(f"there is no image {image!r}", hint="bhatti image build", code="image-not-found")


def _state(pid: int) -> str:
    """Return the state of a process as proc(5) has it; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _processes_of(directory: Path) -> list[int]:
    """Return the processes that were given a socket in this directory."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"LOHAR_SOCK={directory}/".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def _copy_whole(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, symlinks=True)
    draft.rename(target)


def _describe(path: Path) -> Checkpoint:
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return Checkpoint(name=path.name, created_at=path.stat().st_ctime, size_bytes=size)


def _write_inside(home: Path, file: GuestFile) -> None:
    """Put a file where the guest has it, with the home directory of its machine as the root."""
    path = home / os.path.normpath(f"/{file.path}").lstrip("/")  # never above it, whatever is asked for
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(int(file.mode, 8))
    except (OSError, ValueError) as err:
        raise InvalidRequest(f"the machine cannot have a file {file.path[:80]!r}", code="bad-file") from err


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".tmp")
    draft.touch(0o600)
    draft.write_bytes(content)
    draft.rename(path)
