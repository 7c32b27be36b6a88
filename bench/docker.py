"""Sandboxes as containers, next to Docker's own commands. `python -m bench.docker [--json]`.

Runs a Docker Engine of its own (as the tests do), so it needs root, and Docker and runsc installed. The floors are what
a person would do without bhatti, with the same image on the same Docker: `docker run`, `docker exec`, `docker pause`.
"""

import asyncio
import itertools
import secrets
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bench.cli import command, run
from bench.measure import Case, Row, report, row, take_turns
from tests.daemons import daemon
from tests.dockerd import PrivateDocker, private_docker

from bhatti import paths
from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import container_name
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.settings import DockerSettings
from bhatti.model.sandbox import SandboxSpec
from bhatti.operations import table, types

CREATIONS = 12
EXECS = 30
TURNS = 20

TARGETS = {"create and first exec": 0.8, "API: exec true": 0.1, "bhatti exec one -- true": 0.7}
"""Ratios to Docker's own."""

SETTLING_S = 0.1
"""After a pause Docker's own events are under way for some milliseconds; meanwhile it refuses to unpause."""

READY_US = 30_000.0
"""What a creation may take that finds a container ready."""

PAUSE_MARGIN_US = 2000.0
"""What a pause or resume may take beyond Docker's own."""


class Bench:
    """One engine and the Docker below it; `image` is what Docker calls the base image."""

    def __init__(self, docker: PrivateDocker, engine: DockerEngine, api: DockerApi, image: str) -> None:
        self.docker = docker
        self.engine = engine
        self.api = api
        self.image = image

    async def command(self, *words: str) -> None:
        """Run Docker's command to its end, as a shell would."""
        command = ["docker", "--host", f"unix://{self.docker.socket}", *words]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert await process.wait() == 0, words

    async def run(self, name: str) -> None:
        """Do by hand what a creation and its first exec do."""
        limits = ["--cpus", "1", "--memory", "512m", "--network", self.engine.host.network.name]
        await self.command("run", "--detach", "--name", name, *limits, self.image, "sleep", "infinity")
        await self.command("exec", name, "true")

    async def create(self) -> str:
        """Create a sandbox and run its first command."""
        sandbox = await self.make()
        await self.engine.link(sandbox).exec(["true"])
        return sandbox

    async def make(self) -> str:
        """Create a sandbox."""
        spec = SandboxSpec(
            id=secrets.token_hex(8),
            name="bench",
            image="base",
            cpus=1,
            memory_mib=512,
            disk_mib=1024,
            token=secrets.token_hex(16),
        )
        await self.engine.create(spec)
        return spec.id


async def ready(bench: Bench) -> list[Row]:
    """Measure creations by an engine that keeps containers ready."""
    seconds = []
    for _ in range(CREATIONS):
        while bench.engine.ready == 0:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(SETTLING_S)
        began = time.perf_counter()
        sandbox = await bench.make()
        seconds.append(time.perf_counter() - began)
        await bench.engine.destroy(sandbox)
    return [replace(row("create from the ready pool", seconds), limit_us=READY_US)]


async def timed(work: Awaitable[object]) -> float:
    """Return how many seconds `work` takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def creations(bench: Bench) -> list[Row]:
    """Take turns between Docker's run and exec, and ours; removals are not counted."""
    theirs, ours, parts = [], [], []
    for number in range(-1, CREATIONS):
        name = f"bench{number + 1}"
        by_hand = await timed(bench.run(name))
        await bench.command("rm", "--force", name)
        began = time.perf_counter()
        sandbox = await bench.create()
        elapsed = time.perf_counter() - began
        timings = (await bench.engine.status(sandbox)).timings_ms
        await bench.engine.destroy(sandbox)
        if number >= 0:  # the first of each finds nothing in any cache
            theirs.append(by_hand)
            ours.append(elapsed)
            parts.append(timings)
    floor = row("docker run -d, docker exec true", theirs)
    whole = row("create and first exec", ours, floor=floor, target=TARGETS["create and first exec"])
    stages = [row(f"  of it: {name}", [part[name] / 1000 for part in parts]) for name in parts[0] if name != "total"]
    return [floor, whole, *stages]


async def commands(bench: Bench, prefix: str = "") -> list[Row]:
    """Take turns between Docker's exec and the link's in one sandbox."""
    sandbox = await bench.create()
    name = container_name(bench.engine.host.instance, sandbox)
    link = bench.engine.link(sandbox)
    theirs, ours = [], []
    for _ in range(EXECS):
        theirs.append(await timed(bench.command("exec", name, "true")))
        ours.append(await timed(link.exec(["true"])))
    await bench.engine.destroy(sandbox)
    floor = row(f"{prefix}docker exec true", theirs)
    return [floor, row(f"{prefix}link: exec true", ours, floor=floor)]


async def pauses(bench: Bench) -> list[Row]:
    """Take turns between Docker's API and the engine, each with a sandbox of its own."""
    sandbox, other = await bench.create(), await bench.create()
    name = container_name(bench.engine.host.instance, other)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "Docker's API: pause": lambda: bench.api.pause_container(name),
        "Docker's API: unpause": lambda: bench.api.unpause_container(name),
        "pause": lambda: bench.engine.pause(sandbox),
        "resume": lambda: bench.engine.resume(sandbox),
    }
    seconds: dict[str, list[float]] = {what: [] for what in calls}
    for _ in range(TURNS):
        for what, call in calls.items():
            seconds[what].append(await timed(call()))
            await asyncio.sleep(SETTLING_S)
    for done in (sandbox, other):
        await bench.engine.destroy(done)
    rows = []
    for floor_name, own in itertools.pairwise(["Docker's API: pause", "pause", "Docker's API: unpause", "resume"]):
        if own in ("pause", "resume"):
            floor = row(floor_name, seconds[floor_name])
            mine = row(own, seconds[own], floor=floor)
            rows += [floor, replace(mine, limit_us=floor.p50_us + PAUSE_MARGIN_US)]
    return rows


def api_rows(docker: PrivateDocker) -> list[Row]:
    """Measure an exec by the daemon's HTTP API, and by our command, next to Docker's command in the same container."""
    environment = {"BHATTI_DOCKER_SOCKET": str(docker.socket), "BHATTI_IMAGES_DIR": str(paths.images_dir())}
    with daemon(engine="docker", **environment) as served, served.client() as client:
        served.out("create", "one")
        name = docker.docker("ps", "--filter", "label=bhatti.name=one", "--format", "{{.Names}}")[0]
        by_hand = ["docker", "--host", f"unix://{docker.socket}", "exec", name, "true"]
        cases: dict[str, Case] = {
            "docker exec true, beside the API": lambda: run(served, *by_hand),
            "API: exec true": lambda: client.call(table.EXEC, types.ExecRequest(cmd=["true"]), id="one"),
            "bhatti exec one -- true": lambda: run(served, *command("exec", "one", "--", "true")),
        }
        seconds = asyncio.run(take_turns(cases, EXECS))
    (by_hand_name, theirs), *ours = seconds.items()
    floor = row(by_hand_name, theirs)
    return [floor, *(row(name, found, floor=floor, target=TARGETS[name]) for name, found in ours)]


@asynccontextmanager
async def opened(docker: PrivateDocker, home: Path, runtime: str = "", pool: int = 0) -> AsyncIterator[Bench]:
    """Open an engine on `docker`; what is left in it at the end is destroyed."""
    settings = DockerSettings(
        state_dir=home, images_dir=Path(paths.images_dir()), socket=docker.socket, runtime=runtime, pool=pool
    )
    api = await DockerApi.connect(docker.socket)
    try:
        async with DockerEngine(settings) as engine:
            await engine.adopt()
            bench = Bench(docker, engine, api, "")
            try:
                sandbox = await bench.create()  # imports the image
                bench.image = docker.docker("image", "ls", "--quiet", "bhatti-image")[0]
                await engine.destroy(sandbox)
                yield bench
            finally:
                for machine in await engine.list():
                    await engine.destroy(machine.id)
    finally:
        await api.aclose()


async def engine_rows(docker: PrivateDocker) -> list[Row]:
    """Measure the engine, with runc and with gVisor."""
    with tempfile.TemporaryDirectory(prefix="bench") as home:
        async with opened(docker, Path(home)) as bench:
            found = [*await creations(bench), *await commands(bench), *await pauses(bench)]
        async with opened(docker, Path(home), pool=1) as bench:
            found += await ready(bench)
        async with opened(docker, Path(home), "runsc") as bench:
            found += await commands(bench, "runsc: ")
    return found


def rows() -> list[Row]:
    """Measure everything in one run."""
    with private_docker() as docker:
        return [*asyncio.run(engine_rows(docker)), *api_rows(docker)]


if __name__ == "__main__":
    report("Sandboxes as containers", rows())
