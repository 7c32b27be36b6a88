"""One suite for every engine: the engine is a parameter, and what it says it cannot do is skipped with the reason.

A boot costs seconds under emulation, so two sandboxes are shared by all tests that leave them as they found them
(`pair`, and `box`, which is one of them); tests of life and death make their own (`create`). What the engine leaves on
the host is compared before and after each test.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from tests.conformance.engines import ENGINES, Settings, name_of, settings_for
from tests.conformance.leftovers import traces_of
from tests.dockerd import PrivateDocker, need_gvisor

from bhatti.engines.base import Engine, Machine
from bhatti.engines.registry import open_engine
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox under test."""

    spec: SandboxSpec
    machine: Machine
    link: GuestLink


Create = Callable[..., Awaitable[Sandbox]]


def new_spec(name: str, **changes: object) -> SandboxSpec:
    """Return the smallest sandbox that does real work, with an id of its own."""
    wanted: dict[str, object] = {
        "id": f"{name}-{secrets.token_hex(4)}",
        "name": name,
        "image": "base",
        "cpus": 1,
        "memory_mib": 256,
        "disk_mib": 1024,
        "token": secrets.token_hex(16),
    }
    return SandboxSpec(**(wanted | changes))  # type: ignore[arg-type]  # checked by the engine like anybody's


@pytest.fixture(scope="session", params=ENGINES)
def engine_kind(request: pytest.FixtureRequest) -> str:
    """The engine under test, as `tests.conformance.engines` names it."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def engine_name(engine_kind: str) -> str:
    return name_of(engine_kind)


@pytest.fixture(scope="session")
def docker_socket(engine_kind: str, request: pytest.FixtureRequest) -> Path | None:
    """The socket of the tests' own dockerd, if the engine needs one."""
    name, _, runtime = engine_kind.partition("+")
    if name != "docker":
        return None
    if runtime == "runsc":
        need_gvisor()
    docker: PrivateDocker = request.getfixturevalue("docker")
    return docker.socket


@pytest.fixture(scope="session")
def state_dir(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(engine_kind)


@pytest.fixture(scope="session")
def settings(engine_kind: str, state_dir: Path, images_dir: Path, docker_socket: Path | None) -> Settings:
    return settings_for(engine_kind, state_dir, images_dir, docker_socket)


@pytest.fixture(scope="session")
async def engine(engine_name: str, settings: Settings) -> AsyncIterator[Engine]:
    """The engine, open; at the end of the suite it must leave nothing on the host."""
    async with open_engine(engine_name, settings) as opened:
        assert await opened.adopt() == []
        yield opened
        assert await opened.list() == []
    found = await traces_of(settings)
    assert str(found) == "nothing"


@pytest.fixture(scope="session")
async def pair(engine: Engine) -> AsyncIterator[tuple[Sandbox, Sandbox]]:
    """Two running sandboxes, created at the same time."""
    made: dict[str, Sandbox] = {}

    async def create(name: str) -> None:
        spec = new_spec(name, env={"GREETING": "hello, 'you' $HOME ü"})
        machine = await engine.create(spec)
        made[name] = Sandbox(spec, machine, engine.link(spec.id))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, "north")
            tasks.start_soon(create, "south")
        yield made["north"], made["south"]
    finally:
        for sandbox in made.values():
            await engine.destroy(sandbox.spec.id)


@pytest.fixture
def box(pair: tuple[Sandbox, Sandbox]) -> Sandbox:
    """One running sandbox, shared with other tests."""
    return pair[0]


@pytest.fixture(autouse=True)
async def nothing_new(engine: Engine, settings: Settings, pair: tuple[Sandbox, Sandbox]) -> AsyncIterator[None]:
    """No test leaves a process, tap, bridge, table or file on the host that was not there before it.

    The pair is there before: the engine's bridge comes with its first sandbox, and stays.
    """
    before = await traces_of(settings)
    yield
    assert await traces_of(settings) == before


@pytest.fixture
async def create(engine: Engine) -> AsyncIterator[Create]:
    """Create a sandbox for this test alone; it is destroyed at the end if the test has not done it."""
    made: list[str] = []

    async def make(name: str = "box", **changes: object) -> Sandbox:
        spec = new_spec(name, **changes)
        machine = await engine.create(spec)
        made.append(spec.id)
        return Sandbox(spec, machine, engine.link(spec.id))

    yield make
    left = {machine.id for machine in await engine.list()}
    for sandbox_id in made:
        if sandbox_id in left:
            await engine.destroy(sandbox_id)
