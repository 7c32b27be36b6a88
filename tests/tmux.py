"""A real terminal to look at: tmux, which draws what a program writes as a person would see it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.serving import short_directory
from tests.terminals import Screen, screen

DEADLINE_S = 60.0
"""For anything to appear; expected in a tenth of a second, on a busy machine in some."""

LOOK_S = 0.2
"""How long to wait for news before looking again: news of tmux may come a moment before it can be asked about them."""

SETTINGS = """
set -g status off
set -g escape-time 0
set -g destroy-unattached on
"""
"""The whole window is the program's; without us, everything ends."""

RUN = """"$@"; printf '\\n[ended with %s]\\n' $?; exec sleep 3600"""
"""A shell's way to leave the window as it is when the program has ended, and to say how (tmux sometimes cannot)."""


class Tmux:
    """One window of a tmux server of its own, with a program in it."""

    def __init__(self, directory: Path, env: Mapping[str, str], outer: Screen) -> None:
        self._socket = directory / "tmux"
        self._env = env
        self._outer = outer

    def tmux(self, *arguments: str, given: bytes | None = None) -> str:
        """Tell the server something and return its answer."""
        command = ["tmux", "-u", "-S", str(self._socket), *arguments]
        done = subprocess.run(command, env=self._env, input=given, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.decode()

    def type(self, *keys: str) -> None:
        """Press keys by tmux's names (`Enter`, `C-c`), or type texts."""
        self.tmux("send-keys", *keys)

    def line(self, text: str) -> None:
        """Type a line."""
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def paste(self, text: bytes) -> None:
        """Paste, between brackets if the program has asked for them."""
        self.tmux("load-buffer", "-", given=text)
        self.tmux("paste-buffer", "-p", "-r")

    def resize(self, cols: int, rows: int) -> None:
        """Give the window another size."""
        self._outer.resize(rows, cols)
        self._outer.drain(0)

    def wait(self, sight: Callable[[str], bool]) -> str:
        """Wait until a person sees what `sight` says yes to; return all that is seen."""
        deadline = time.monotonic() + DEADLINE_S
        while not sight(shown := self.tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"never seen; what is seen is:\n{shown}"
            self._outer.drain(LOOK_S)
        return shown

    def wait_for(self, text: str) -> str:
        """Wait until `text` is seen."""
        return self.wait(lambda shown: text in shown)

    def exit_code(self) -> int:
        """Wait until the program has ended and return its exit code."""
        ended = re.compile(r"^\[ended with (\d+)\]$", re.MULTILINE)
        found = ended.search(self.wait(lambda shown: ended.search(shown) is not None))
        assert found is not None
        return int(found[1])


@contextmanager
def window(env: Mapping[str, str], *command: str, cols: int = 80, rows: int = 24) -> Iterator[Tmux]:
    """Open a window with `command` in it, in a tmux of its own."""
    env = {**env, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    with short_directory() as directory:
        (directory / "settings").write_text(SETTINGS)
        server = ["tmux", "-u", "-S", f"{directory}/tmux", "-f", f"{directory}/settings", "new-session"]
        server += ["sh", "-c", RUN, "sh", *command]
        with screen(*server, env=env, cwd=str(directory), rows=rows, cols=cols) as (outer, process):
            found = Tmux(directory, env, outer)
            deadline = time.monotonic() + DEADLINE_S
            while not outer.drain(LOOK_S):
                assert process.poll() is None
                assert time.monotonic() < deadline
            try:
                yield found
            finally:
                found.tmux("kill-server")
                process.wait(60)


@contextmanager
def bhatti_in_window(env: Mapping[str, str], *arguments: str, cols: int = 80, rows: int = 24) -> Iterator[Tmux]:
    """Open a window with `bhatti` in it."""
    with window(env, sys.executable, "-m", "bhatti", *arguments, cols=cols, rows=rows) as found:
        yield found
