"""Forks with a real store and real agents: what they are, that nothing is left of one that fails."""

import asyncio
from pathlib import Path

import anyio.lowlevel
import pytest
from tests.serving import Served
from tests.unit.bhatti.store.rows import record

from bhatti.daemon import forks
from bhatti.errors import Busy, Conflict, InvalidRequest, NotFound
from bhatti.model.sandbox import Status
from bhatti.operations import types

pytestmark = pytest.mark.anyio


def ignore(stage: str) -> None:
    """Nobody looks at the stages."""


async def fork(served: Served, **fields: object) -> types.Sandbox:
    return await served.service.fork("one", types.SandboxFork(**fields), ignore)  # type: ignore[arg-type]


async def files_of(served: Served, name: str) -> list[str]:
    link = await served.guest(name)
    return (await link.exec(["ls"])).stdout.decode().split()


async def test_a_fork_is_somebody_of_its_own_with_what_its_source_had(served: Served) -> None:
    await served.service.create(types.SandboxCreate(name="one", env={"A": "1", "B": "1"}, init="true"), ignore)
    await (await served.guest("one")).exec(["touch", "common"])
    stages: list[str] = []
    made = await served.service.fork("one", types.SandboxFork(name="two", env={"B": "2"}), stages.append)
    assert (made.name, made.how, made.status) == ("two", "forked", Status.RUNNING)
    assert stages == ["layer", "boot", "agent"]
    assert await files_of(served, "two") == ["common"]
    one, two = await served.journal.sandboxes()
    assert two.spec.env == {"A": "1", "B": "2"}
    assert (two.spec.init, two.spec.memory_mib) == ("true", one.spec.memory_mib)
    assert two.spec.token != one.spec.token
    assert await served.journal.intents() == []


async def test_a_fork_is_on_the_network_of_whoever_asked_for_it(served: Served) -> None:
    anna = served.service.accounts.identify(await served.user("anna"))
    await served.service.create(types.SandboxCreate(name="one"), ignore, anna)
    source = served.service.resolve(anna, "one")
    await served.service.fork(source, types.SandboxFork(name="two"), ignore, anna)
    await served.service.fork(source, types.SandboxFork(name="three"), ignore)
    assert [row.spec.owner for row in await served.journal.sandboxes()] == [anna.owner, anna.owner, ""]


async def test_a_fork_without_a_name_gets_one(served: Served) -> None:
    await served.create("one")
    assert (await fork(served)).name.startswith("sandbox-")


async def test_a_source_that_sleeps_is_woken_and_one_that_failed_is_refused(served: Served) -> None:
    made = await served.create("one")
    await served.service.stop_sandbox("one")
    await fork(served, name="two")
    assert (await served.service.sandbox("one")).status is Status.RUNNING
    await served.engine.destroy(made.id)
    assert (await served.service.sandbox("one")).status is Status.FAILED
    with pytest.raises(Conflict) as caught:
        await fork(served, name="three")
    assert caught.value.code == "not-running"


async def test_a_fork_of_a_checkpoint_needs_no_running_source(served: Served) -> None:
    await served.create("one")
    await (await served.guest("one")).exec(["touch", "early"])
    await served.service.checkpoint("one", "kept")
    await (await served.guest("one")).exec(["touch", "late"])
    await served.service.stop_sandbox("one")
    await fork(served, name="two", checkpoint="kept")
    assert (await served.service.sandbox("one")).status is Status.STOPPED
    assert await files_of(served, "two") == ["early"]


async def test_a_source_that_is_busy_is_not_forked(served: Served) -> None:
    made = await served.create("one")
    with served.service.claims.hold(made.id, "stop"), pytest.raises(Busy, match="stop is under way, cannot fork it"):
        await fork(served, name="two")
    assert [found.name for found in await served.service.sandboxes()] == ["one"]


async def test_any_number_of_forks_may_be_asked_for_at_once(served: Served) -> None:
    await served.create("one")
    names = [f"fork-{number}" for number in range(6)]
    made = await asyncio.gather(*(fork(served, name=name) for name in names))
    assert [found.name for found in made] == names
    assert {found.status for found in made} == {Status.RUNNING}
    assert await served.journal.intents() == []


async def test_a_fork_waits_for_another_one_and_whoever_leaves_meanwhile_leaves_nothing(served: Served) -> None:
    source = await served.create("one")
    with served.service.claims.hold(source.id, "fork"):
        waiting = [asyncio.get_running_loop().create_task(fork(served, name=name)) for name in ("two", "three")]
        while len(await served.journal.intents()) < 2:  # each has its row, and goes no further
            await anyio.lowlevel.checkpoint()
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
    assert (await waiting[1]).name == "three"
    assert [row.name for row in await served.journal.sandboxes()] == ["one", "three"]
    assert await served.journal.intents() == []


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"name": "one"}, Conflict, "name-taken"),
        ({"name": "a b"}, InvalidRequest, "bad-name"),
        ({"env": {"A=B": "c"}}, InvalidRequest, "bad-environment"),
        ({"checkpoint": "none"}, NotFound, "checkpoint-not-found"),
        ({"checkpoint": "../../one"}, InvalidRequest, "bad-name"),
    ],
)
async def test_a_fork_that_fails_leaves_nothing(
    served: Served, fields: dict[str, object], error: type[Exception], code: str
) -> None:
    await served.create("one")
    with pytest.raises(error) as caught:
        await fork(served, **fields)
    assert getattr(caught.value, "code", "") == code
    assert [row.name for row in await served.journal.sandboxes()] == ["one"]
    assert await served.journal.intents() == []
    assert len(list((Path(served.settings.state_dir) / "m").iterdir())) == 1


async def test_a_creation_from_a_sandbox_is_a_fork_of_it(served: Served) -> None:
    source = await served.service.create(types.SandboxCreate(name="one", memory_mb=256), ignore)
    request = types.SandboxCreate(name="two", source="one", memory_mb=256, init="echo mine")
    made = await served.service.create(request, ignore)
    assert (made.how, made.memory_mb, made.image) == ("forked", 256, source.image)
    assert (await served.journal.sandboxes())[1].spec.init == "echo mine"


@pytest.mark.parametrize(
    "field", [{"image": "silent"}, {"cpus": 64}, {"memory_mb": 4096}, {"disk_size_mb": 64}, {"user": "root"}]
)
def test_a_creation_from_a_sandbox_cannot_be_of_another_shape(field: dict[str, object]) -> None:
    request = types.SandboxCreate(source="one", **field)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=f"has its {next(iter(field))}") as caught:
        forks.fork_of(request, record("aa").spec)
    assert caught.value.code == "shape-differs"


async def test_a_fork_has_no_volumes() -> None:
    mount = types.VolumeMount(name="data", target="/data")
    for field in ("volumes", "persistent_volumes", "new_volumes"):
        with pytest.raises(InvalidRequest, match="volumes") as caught:
            forks.fork_of(types.SandboxCreate(source="one", **{field: [mount]}), record().spec)  # type: ignore[arg-type]
        assert caught.value.code == "cannot-fork"
