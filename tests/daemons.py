"""A daemon as a process of its own, with the command line to talk to it: what people have."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.serving import short_directory

from bhatti.errors import ErrorBody
from bhatti.operations import types
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import Endpoint

ROOT = Path(__file__).resolve().parent.parent
LOCAL = "tests.engines.local:LocalEngine"


class Daemon:
    """One state directory, the daemon that has it (or none), and `bhatti` as a person would call it."""

    def __init__(self, directory: Path, engine: str = LOCAL, **settings: str) -> None:
        self.directory = directory
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("BHATTI_", "XDG_", "NO_COLOR"))},
            "BHATTI_STATE_DIR": str(directory),
            "BHATTI_ENGINE": engine,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
            "HOME": str(directory),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(path=f"{self.directory}/run/bhatti.sock")

    @property
    def log(self) -> str:
        return (self.directory / "daemon.log").read_text()

    def start(self, *flags: str) -> None:
        """Start the daemon and wait until it serves; raises what it said instead."""
        reader, writer = os.pipe()
        with (self.directory / "daemon.log").open("ab") as log:
            # Ended with us even if we are killed: a fixture that never gets to its end leaves no daemon behind.
            command = ["setpriv", "--pdeathsig", "TERM", "--"]
            command += [sys.executable, "-m", "bhatti.daemon", "serve", "--ready-fd", str(writer)]
            command += [part for flag in flags for part in ("--set", flag)]
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(writer,),
            )  # fmt: skip
        os.close(writer)
        with os.fdopen(reader, "rb") as said:
            line = said.readline()
        if line != b"ready\n":
            self.process.wait(60)
            raise AssertionError(f"the daemon did not start: {line!r}\n{self.log[-4000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process = None
        return status

    def popen(self, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
        """Start `bhatti`."""
        given = {"env": self.env, "cwd": self.directory, **options}
        return subprocess.Popen([sys.executable, "-m", "bhatti", *arguments], **given)  # type: ignore[call-overload, no-any-return]

    def bhatti(
        self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `bhatti` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "bhatti", *arguments],
            input=stdin,
            capture_output=True,
            env={**self.env, **(env or {})},
            cwd=self.directory,
            timeout=300,
            check=False,
        )

    def out(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run `bhatti`, which must succeed, and return what it said."""
        done = self.bhatti(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def client(self) -> Client:
        return Client(self.endpoint)

    def machines(self, directory: str = "m") -> list[str]:
        """The ids of the machines that have a directory, but for goldens; `m` is that of the local engine."""
        return sorted(path.name for path in (self.directory / directory).glob("[!.]*"))

    def remove_all(self) -> None:
        """End all sandboxes that there are."""
        for sandbox in msgspec.json.decode(self.out("ls", "--json"), type=list[types.Sandbox]):
            self.out("rm", sandbox.id)


@contextmanager
def daemon(**settings: str) -> Iterator[Daemon]:
    """A running daemon with a directory of its own; ended with all its sandboxes."""
    with short_directory() as directory:
        found = Daemon(directory, **settings)
        found.start()
        try:
            yield found
        finally:
            try:
                if found.process is None:
                    found.start()
                found.remove_all()
            finally:
                # Even if they could not be removed: while it lives, it writes into the directory that is to go.
                if found.process is not None:
                    found.stop()


def error_of(done: "subprocess.CompletedProcess[bytes]") -> tuple[int, str]:
    """Return exit status and error code of a `--json` command that failed; also checks how it was told."""
    text = done.stderr.decode()
    assert "Traceback" not in text
    body = msgspec.json.decode(text.splitlines()[-1], type=ErrorBody)
    assert body.error
    return done.returncode, body.code
