"""The command line and the daemon, machines being processes of the host. `python -m bench.cli [--json]`.

A command is measured as people pay for it: from the start of its process to its end. What the API takes is measured
over a kept connection in the same run, so that the difference is the command's own.
"""

import asyncio
import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

from bench.measure import Case, Row, report, row, size_row, spawn, take_turns
from tests.daemons import Daemon, daemon

from bhatti.operations import table, types
from bhatti.sdk.client import Client

ROUNDS = 30
API_BLOCK = 10

LIMITS_MS = {
    "bhatti --help": 80.0,
    "bhatti ls": 100.0,
    "Tab: a command": 100.0,
    "Tab: the name of a sandbox": 100.0,
    "bhatti exec one -- true, without the API's part": 100.0,
    "from bhatti import Sandbox": 120.0,
    "from bhatti import Sandbox, AsyncSandbox": 120.0,
}
"""Whole processes, on a quiet machine."""

RATIOS = {"API: exec true": 2.0}
"""To a bare spawn."""

IDLE_MIB = 80.0

ONE = "bhatti exec one -- true"
SDK = ("from bhatti import Sandbox", "from bhatti import Sandbox, AsyncSandbox")
HTTP = "import http.client"
"""A part of the standard library that a client would be made of: what the import of ours is compared with."""


def command(*arguments: str) -> list[str]:
    """Return the command line of the installed `bhatti`."""
    return [str(Path(sys.executable).with_name("bhatti")), *arguments]


def run(served: Daemon, *arguments: str, **environment: str) -> None:
    """Run a process to its end, as a shell would: nothing of it is kept."""
    env = {**served.env, **environment}
    subprocess.run(arguments, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def tab(served: Daemon, line: str) -> None:
    """Press Tab at the end of `line`, as zsh does it."""
    run(
        served,
        *command(),
        _BHATTI_COMPLETE="zsh_complete",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )


def rows() -> list[Row]:
    """Measure everything in one run."""
    with daemon() as served, served.client() as client:
        served.out("create", "one")
        idle = size_row("daemon, idle, one sandbox", resident_kib(served), target_mib=IDLE_MIB)
        return [*latency_rows(served, client), *process_rows(served, client), idle]


def latency_rows(served: Daemon, client: Client) -> list[Row]:
    """Measure what is one request over a kept connection, synchronous client and HTTP included."""
    small = served.directory / "small"
    small.write_bytes(os.urandom(1024))
    cases: dict[str, Case] = {
        "spawn true": spawn,
        "API: health": lambda: client.call(table.HEALTH),
        "API: show a sandbox": lambda: client.call(table.SANDBOX_GET, id="one"),
        "API: read 1 KiB": lambda: client.download(table.FILE_READ, {"path": str(small)}, id="one").read(),
        "API: exec true": lambda: client.call(table.EXEC, types.ExecRequest(cmd=["true"]), id="one"),
    }
    seconds = asyncio.run(take_turns(cases, ROUNDS, block=API_BLOCK))
    floor = row("spawn true", seconds["spawn true"])
    return [floor, *(row(n, seconds[n], floor=floor, target=RATIOS.get(n)) for n in cases if n != floor.name)]


def process_rows(served: Daemon, client: Client) -> list[Row]:
    """Measure whole processes, and the API's part of `exec` next to each."""
    cases: dict[str, Case] = {
        "python -c pass": lambda: run(served, sys.executable, "-c", "pass"),
        **{line: functools.partial(run, served, sys.executable, "-c", line) for line in (HTTP, *SDK)},
        "bhatti --help": lambda: run(served, *command("--help")),
        "bhatti ls": lambda: run(served, *command("ls")),
        "Tab: a command": lambda: tab(served, "bhatti exe"),
        "Tab: the name of a sandbox": lambda: tab(served, "bhatti exec on"),
        ONE: lambda: run(served, *command("exec", "one", "--", "true")),
        "API": lambda: client.call(table.EXEC, types.ExecRequest(cmd=["true"]), id="one"),
    }
    seconds = asyncio.run(take_turns(cases, ROUNDS))
    api = seconds.pop("API")
    own = f"{ONE}, without the API's part"
    seconds[own] = [max(0.0, whole - part) for whole, part in zip(seconds[ONE], api, strict=True)]
    floor = row("python -c pass", seconds.pop("python -c pass"))
    measured = [floor, *(row(name, found, floor=floor) for name, found in seconds.items())]
    return [
        dataclasses.replace(item, limit_us=LIMITS_MS[item.name] * 1000) if item.name in LIMITS_MS else item
        for item in measured
    ]


def resident_kib(served: Daemon) -> int:
    """Return the daemon's resident memory."""
    assert served.process is not None
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    report("The command line and the daemon", rows())
