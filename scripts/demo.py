"""The main job, for real: a command runs in a virtual machine with a kernel of its own.

Builds the images (once), starts a daemon of its own on a private socket, creates a sandbox and works in it: uploads
this repository's source, runs the tests of the wire inside the guest, reads the result back, fetches a page from a web
server in the guest through the tunnel, puts the sandbox to sleep and wakes it, and makes another one by a fork. Removes
everything it started, unless told to `--keep` it.
"""

import argparse
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from bhatti import paths
from bhatti.sdk.connection import Connection
from bhatti.sdk.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
NAME = "demo"
ANOTHER = "demo-2"
TEST_LIBRARIES = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
"""Taken from the virtual environment, as Debian's Python on both sides is the same: the guest needs no network."""

PAGE_PORT = 8000
PAGE_DEADLINE_S = 30.0
"""Expected: about 2 s for Python's web server to start in an emulated guest."""


class Demo:
    """One run: its environment, its timings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # Images are the user's own, built once; everything else is this run's.
        self.env = {
            **os.environ,
            "BHATTI_IMAGES_DIR": paths.images_dir(),
            "BHATTI_STATE_DIR": str(home / "state"),
            "BHATTI_RUNTIME_DIR": str(home / "run"),
        }
        self.timings: list[tuple[str, float]] = []

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `bhatti` with `arguments`."""
        return [sys.executable, "-m", "bhatti", *arguments]

    def bhatti(self, *arguments: str, stdin: bytes | None = None, show: bool = False) -> bytes:
        """Run `bhatti`; return its output, or let it stream to the terminal when `show` is set."""
        line = f"$ bhatti {shlex.join(arguments)}"
        print(f"\033[1m{line}\033[0m" if sys.stdout.isatty() else line, flush=True)
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=None if show else subprocess.PIPE,
            env=self.env,
            check=True,
        )
        return b"" if show else done.stdout

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block took."""
        began = time.monotonic()
        yield
        self.timings.append((what, time.monotonic() - began))

    @contextmanager
    def daemon(self, *, keep: bool) -> Iterator[None]:
        """Serve on a private socket while the block runs."""
        log = self.home / "serve.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                self.command("serve", "--stop-all"), env=self.env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                start_new_session=keep,
            )  # fmt: skip
        try:
            self.bhatti("version", "--wait", "20")
            yield
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            if keep:
                print(f"kept: the daemon has pid {process.pid}; `kill {process.pid}` ends it")
            else:
                process.terminate()
                process.wait(60)


def source_archive() -> bytes:
    """Pack the wire, its tests, and the libraries that run them, compiled as they are on this side."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in ("src", "tests/unit/lohar/wire"):
            archive.add(ROOT / path, path, filter=without_caches)
        for library in TEST_LIBRARIES:
            for file in metadata.files(library) or ():
                if not file.parts[0].startswith(".."):
                    archive.add(file.locate(), f"libraries/{file}")
    return buffer.getvalue()


def without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what was compiled from sources of another day."""
    return None if "__pycache__" in member.name else member


def work(demo: Demo) -> None:
    """Create a sandbox, work in it, print what came out, destroy it."""
    with demo.timed("create: boot to first answer"):
        created = json.loads(demo.bhatti("create", NAME, "--cpus", "1", "--memory", "512", "--json"))
    with demo.timed("exec true, whole command"):
        demo.bhatti("exec", NAME, "--", "true")

    archive = source_archive()
    with demo.timed(f"upload {len(archive) / 2**20:.1f} MiB of source"):
        demo.bhatti("file", "write", NAME, "/workspace/source.tar", stdin=archive)
    demo.bhatti("exec", NAME, "--", "tar", "xf", "source.tar")
    with demo.timed("wire tests inside the guest"):
        demo.bhatti(
            "exec", NAME, "--env", "PYTHONPATH=src:libraries", "--env", "PYTHONDONTWRITEBYTECODE=1", "--",
            "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "/workspace",
            "--import-mode=importlib", "--junitxml=result.xml", "tests/unit/lohar/wire",
            show=True,
        )  # fmt: skip
    with demo.timed("read the result file back"):
        result = ElementTree.fromstring(demo.bhatti("file", "read", NAME, "/workspace/result.xml"))
    suite = result.find("testsuite")
    if suite is None or suite.get("failures") != "0" or suite.get("errors") != "0" or int(suite.get("tests", 0)) == 0:
        raise SystemExit("demo: the wire tests did not pass inside the guest")

    page = "made inside the guest"
    demo.bhatti("file", "write", NAME, "/workspace/page/index.html", stdin=page.encode())
    demo.bhatti(
        "exec", "--detach", NAME, "--",
        "python3", "-m", "http.server", str(PAGE_PORT), "--directory", "/workspace/page",
    )  # fmt: skip
    with demo.timed("page from the guest, server start included"):
        fetched = fetch_page(demo)
    if fetched != page:
        raise SystemExit(f"demo: the page through the tunnel was {fetched!r}, not {page!r}")

    guest = demo.bhatti("exec", NAME, "--", "uname", "-sr").decode().strip()
    with demo.timed("stop, memory to disk"):
        demo.bhatti("stop", NAME)
    with demo.timed("exec true, waking it from disk"):
        demo.bhatti("exec", NAME, "--", "true")
    began = time.monotonic()
    another = json.loads(demo.bhatti("create", ANOTHER, "--cpus", "1", "--memory", "512", "--json"))
    demo.timings.append((f"create another like it: {another['how']}", time.monotonic() - began))
    with demo.timed("destroy both"):
        demo.bhatti("rm", NAME, ANOTHER)
    report(demo, created, guest, f"{suite.get('tests')} wire tests passed inside the guest")


def fetch_page(demo: Demo) -> str:
    """Fetch the page through the daemon's proxy, as soon as the guest's server listens."""
    connection = Connection(Endpoint(path=paths.socket_path(demo.env)))
    deadline = time.monotonic() + PAGE_DEADLINE_S
    while True:
        response = connection.request("GET", f"/sandboxes/{NAME}/proxy/{PAGE_PORT}/")
        body = response.read().decode(errors="replace")
        if response.head.status == 200:
            return body
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: no page within {PAGE_DEADLINE_S:.0f} s, last answer: {body}")
        time.sleep(0.2)  # nothing announces that a program inside the guest has begun to listen


def report(demo: Demo, created: dict[str, object], guest: str, tests: str) -> None:
    """Print kernels side by side and the table of timings."""
    host = f"{platform.system()} {platform.release()}"
    print(f"\n{tests}\n")
    print(f"{'':10}{'kernel':36}accelerator")
    print(f"{'host':10}{host:36}")
    print(f"{'guest':10}{guest:36}{created.get('accelerator', '')}\n")
    for what, seconds in demo.timings:
        print(f"{what:48}{seconds * 1000:10.0f} ms")


def main() -> int:
    """Run the demonstration; return 0 when all of it worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the daemon and its directory when done")
    keep = parser.parse_args().keep
    home = Path(tempfile.mkdtemp(prefix="bhatti-demo-"))
    demo = Demo(home)
    try:
        with demo.timed("images: build what is missing"):
            demo.bhatti("image", "build", show=True)
        with demo.daemon(keep=keep):
            work(demo)
    except subprocess.CalledProcessError as err:
        sys.stderr.write(f"demo: {shlex.join(err.cmd[2:])} ended with exit code {err.returncode}\n")
        return 1
    finally:
        if keep:
            print(f"kept: BHATTI_STATE_DIR={home / 'state'} BHATTI_RUNTIME_DIR={home / 'run'}")
        else:
            shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
