"""A Docker Engine of the tests' own: private directories, socket and control groups, nothing shared with another one.

It is started as a child, stopped by its pid, and must leave nothing: mounts, processes, control groups, directories.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.privileges import in_chroot

from bhatti.engines.docker.api import DockerApi
from bhatti.errors import NotFound

TINY = "bhatti-tiny"
"""An image of busybox and nothing else: imported in a moment, and about as far from Debian as images get."""

RUNSC_ARGUMENTS = ["--host-uds=create", "--network=none"]
"""Sockets that the host sees; and no network but a loopback: Debian 12's runsc cannot take over interfaces on kernels
that show network sysctls in every namespace (it takes them all for the root one)."""


class PrivateDocker:
    """A dockerd with everything below `directory`; start and stop it as often as you like."""

    def __init__(self, directory: Path, *, data: Path | None = None) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.group = f"bhatti-{directory.name}"
        self._data = data or directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until its API listens."""
        config = self.directory / "daemon.json"
        runsc = {"path": shutil.which("runsc") or "/usr/bin/runsc", "runtimeArgs": RUNSC_ARGUMENTS}
        config.write_text(json.dumps({"runtimes": {"runsc": runsc}}))
        process = subprocess.Popen(
            [
                *self._rooted(),
                "dockerd", "--config-file", config, "--data-root", self._data, "--exec-root", self.directory / "exec",
                "--pidfile", self.directory / "pid", "--host", f"unix://{self.socket}",
                "--cgroup-parent", f"/{self.group}",
                "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Programs of administrators, which an ordinary user's PATH leaves out.
            env=os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
            start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        said = b""
        try:
            for line in process.stderr:
                said += line
                if b"API listen on" in line:
                    break
            else:
                raise AssertionError(f"dockerd ended at its start: {said[-2000:].decode(errors='replace')}")
            # Its pipe must not fill up.
            self._drain = threading.Thread(target=_drain, args=(process.stderr,))
            self._drain.start()
        except BaseException:
            # It may be alive: whoever waited for it has lost patience, or was told to end.
            process.kill()
            process.communicate()  # until its containerd, which dies with it and holds the pipe too, is gone
            raise
        self._process = process

    def _rooted(self) -> list[str | Path]:
        """Return what goes before its command: in a chroot, what makes a "/" that can be changed by pivot_root(2)."""
        if not in_chroot():
            return []
        root = self.directory / "root"
        root.mkdir(exist_ok=True)
        unshare = ["unshare", "--mount", "--propagation=unchanged"]
        return [*unshare, "sh", "-c", 'mount --rbind / "$0" && exec chroot "$0" "$@"', root]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)
        self._process = None
        self._drain.join()

    def hold(self) -> None:
        """Let it hang: it is there and answers nobody, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it work again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove all it had. What a test left in it is removed too, and is an error."""
        left = []
        try:
            if self._process is None:
                self.start()  # only a dockerd can take its bridges away
            left += self._clear()
        finally:
            left += self.remove()
        assert left == [], "left by a test or by Docker"

    def remove(self) -> list[str]:
        """End it, if it runs, and remove its directory; return what was still mounted there."""
        if self._process is not None:
            self.end()
        mounts = self.mounts()
        for mount in reversed(mounts):  # what is mounted in others comes after them
            subprocess.run(["umount", mount], check=True)
        for group in self.groups():
            group.rmdir()
        shutil.rmtree(self.directory)
        return mounts

    def _clear(self) -> list[str]:
        """Remove all containers, networks and volumes; return what they were."""
        containers = self.docker("ps", "--all", "--quiet")
        networks = self.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}")
        volumes = self.docker("volume", "ls", "--quiet")
        for kind, names in (("container", containers), ("network", networks), ("volume", volumes)):
            if names:
                self.docker(kind, "rm", "--force" if kind != "network" else "--", *names)
        return containers + networks + volumes

    def docker(self, *words: str) -> list[str]:
        """Run Docker's own command, which must succeed, and return the words it prints."""
        command = ["docker", "--host", f"unix://{self.socket}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.split()

    def mounts(self) -> list[str]:
        """Return what is mounted in its directories."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [target for line in lines if (target := line.split()[4]).startswith(f"{self.directory}/")]

    def groups(self) -> list[Path]:
        """Return its control groups, children before parents."""
        roots = [root / self.group for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir())]
        found = [Path(path) for root in roots for path, _, _ in os.walk(root)]
        return sorted(found, key=lambda path: len(path.parts), reverse=True)

    async def import_tiny(self) -> None:
        """Give it the image `TINY`, unless it has it."""
        api = await DockerApi.connect(self.socket)
        try:
            await api.image(TINY)
        except NotFound:
            await api.import_image(_once(tiny_archive()), name=TINY, tag="latest", labels={})
        finally:
            await api.aclose()


def need_gvisor() -> None:
    """Skip the test where gVisor cannot run."""
    if shutil.which("runsc") is None:
        pytest.skip("needs the runtime runsc: apt install runsc")
    if in_chroot():
        pytest.skip("needs user namespaces, for runsc, and the kernel makes none for who is in a chroot")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _drain(pipe: io.BufferedIOBase) -> None:
    """Read what nobody wants to know. It is not written down: tests make writing fail, for this thread too."""
    with pipe:
        while pipe.read(65536):
            pass


def tiny_archive() -> bytes:
    """Return the root file system of `TINY` as a tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for folder in ("bin", "etc", "tmp"):
            header = tarfile.TarInfo(folder)
            header.type, header.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(header)
        program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
        header = tarfile.TarInfo("bin/busybox")
        header.mode, header.size = 0o755, len(program)
        archive.addfile(header, io.BytesIO(program))
        for name in ("sh", "cat", "echo", "false", "id", "ls", "mkdir", "sleep", "touch", "true"):
            header = tarfile.TarInfo(f"bin/{name}")
            header.type, header.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(header)
    return made.getvalue()


@contextlib.contextmanager
def private_docker(*, data: Path | None = None) -> Iterator[PrivateDocker]:
    """Run a dockerd of one's own. Its directory has a short name: sockets lie deep in it, of at most 107 bytes."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a private dockerd")
    if shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is None:
        pytest.skip("needs Docker: apt install docker.io")
    directory = Path(tempfile.mkdtemp(prefix="bhk", dir="/tmp"))
    docker = PrivateDocker(directory, data=data)
    try:
        docker.start()
    except BaseException:
        docker.remove()
        raise
    try:
        yield docker
    finally:
        docker.close()


@pytest.fixture(scope="session")
def docker() -> Iterator[PrivateDocker]:
    """The dockerd that most tests share; they leave it as they found it."""
    with private_docker() as running:
        yield running
