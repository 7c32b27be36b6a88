"""One engine and its containers: what it finds at its start, what it leaves at its end, many at once."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.disks import full_disk
from tests.dockerd import PrivateDocker
from tests.unit.bhatti.engines.docker.conftest import new_spec
from tests.unit.bhatti.engines.docker.test_machine import eventually

from bhatti.engines.base import Machine
from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.container import container_name
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.machine import DockerMachine
from bhatti.engines.docker.network import interface_name
from bhatti.engines.docker.record import Phase, read_record, write_record
from bhatti.engines.docker.settings import DockerSettings
from bhatti.engines.registry import open_engine
from bhatti.errors import BhattiError, Busy, Conflict, InvalidRequest, MissingDependency, NotFound, Unavailable
from bhatti.model.sandbox import Status
from bhatti.net.instance import instance_of

# Starting ten containers at once takes three seconds on a quiet machine, and twenty on one with much else to do.
pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(120)]

NOBODY = 65534


def alter(settings: DockerSettings, sandbox_id: str, **changes: object) -> None:
    """Change a record, as an engine would have left it that was killed at another moment."""
    directory = settings.sandboxes_dir / sandbox_id
    record = read_record(directory)
    assert record is not None
    write_record(directory, type(record)(**({f: getattr(record, f) for f in record.__struct_fields__} | changes)))


def test_the_registry_knows_it(tmp_path: Path) -> None:
    engine = open_engine("docker", DockerSettings(state_dir=tmp_path, images_dir=tmp_path))
    assert isinstance(engine, DockerEngine)


async def test_it_cannot_be_used_before_it_is_entered(tmp_path: Path) -> None:
    engine = DockerEngine(DockerSettings(state_dir=tmp_path, images_dir=tmp_path))
    with pytest.raises(Unavailable, match="not open"):
        await engine.create(new_spec())
    await engine.aclose()


async def test_no_docker_is_a_missing_dependency(tmp_path: Path) -> None:
    engine = DockerEngine(DockerSettings(state_dir=tmp_path, images_dir=tmp_path, socket=tmp_path / "none"))
    with pytest.raises(MissingDependency) as caught:
        async with engine:
            pass
    assert caught.value.code == "docker-missing"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes nobody, which needs root")
def test_without_permission_the_group_is_named(docker: PrivateDocker) -> None:
    docker.directory.chmod(0o711)
    program = (
        "import asyncio; from pathlib import Path; from bhatti.engines.docker.api import DockerApi\n"
        f"try: asyncio.run(DockerApi.connect(Path({str(docker.socket)!r})))\n"
        "except Exception as error: print(error.code, error.hint)"
    )
    rights = "-all,+dac_read_search"  # to read this interpreter, wherever it is
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    drop += [f"--inh-caps={rights}", f"--ambient-caps={rights}", f"--bounding-set={rights}"]
    done = subprocess.run([*drop, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("docker-forbidden sudo usermod -aG docker")


async def test_an_unknown_runtime_is_told_when_it_is_entered(settings: DockerSettings) -> None:
    with pytest.raises(MissingDependency) as caught:
        async with DockerEngine(replace(settings, runtime="kata")):
            pass
    assert caught.value.code == "runtime-missing"


async def test_what_it_can_do_is_told(engine: DockerEngine) -> None:
    can = engine.capabilities
    assert (can.pause, can.bridge_network) == (True, True)
    assert {can.own_kernel, can.memory_snapshot, can.fork, can.sudo} == {False}
    assert {can.disk_limit, can.volume_limit, can.volume_clone, can.fork_volumes} == {False}
    findings = await anyio.to_thread.run_sync(engine.examine, engine.settings)
    assert {finding.level for finding in findings} == {"ok"}


async def test_unknown_sandboxes_are_not_found(engine: DockerEngine) -> None:
    calls: list[Callable[[str], Awaitable[object]]] = [
        engine.status, engine.destroy, engine.pause, engine.resume, engine.start, engine.ensure_hot,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(NotFound) as caught:
            await call("nobody")
        assert caught.value.code == "sandbox-not-found"
    with pytest.raises(NotFound):
        await engine.stop("nobody", memory=False)
    with pytest.raises(NotFound):
        engine.link("nobody")
    with pytest.raises(NotFound):
        engine.console("nobody")


async def test_ids_are_names_and_unique(engine: DockerEngine) -> None:
    for bad in ("", "../up", "a/b", "x" * 64):
        with pytest.raises(InvalidRequest):
            await engine.create(new_spec(id=bad))
    machine = await engine.create(new_spec())
    with pytest.raises(Conflict) as caught:
        await engine.create(new_spec(id=machine.id))
    assert caught.value.code == "sandbox-exists"
    assert [found.id for found in await engine.list()] == [machine.id]


async def test_ten_at_once_all_answer_at_different_addresses(engine: DockerEngine) -> None:
    made: list[Machine] = []

    async def create(number: int) -> None:
        machine = await engine.create(new_spec(f"box{number}"))
        made.append(machine)
        result = await engine.link(machine.id).exec(["cat", "/proc/sys/kernel/hostname"])
        assert result.stdout == f"box{number}\n".encode()

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(create, number)
    assert len({machine.address for machine in made}) == 10
    assert [machine.id for machine in await engine.list()] == sorted(
        (machine.id for machine in made), key=[machine.id for machine in await engine.list()].index
    )
    async with anyio.create_task_group() as tasks:
        for machine in made:
            tasks.start_soon(engine.destroy, machine.id)


async def test_failures_of_many_at_once_leave_nothing(engine: DockerEngine) -> None:
    async def fail(image: str) -> None:
        with pytest.raises(BhattiError):
            await engine.create(new_spec(image=image))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(fail, f"none{number}")
    assert await engine.list() == []


@pytest.mark.parametrize("stage", ["images", "config", "container", "start", "agent"])
async def test_a_create_cancelled_at_any_stage_leaves_nothing(engine: DockerEngine, api: DockerApi, stage: str) -> None:
    with anyio.CancelScope() as scope:
        await engine.create(new_spec(), progress=lambda begun: scope.cancel() if begun == stage else None)
    assert scope.cancelled_caught
    assert await engine.list() == []
    assert await api.containers(f"bhatti.instance={engine.host.instance}") == []


async def test_a_destroy_that_is_cancelled_ends_all_the_same(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    with anyio.move_on_after(0):
        await engine.destroy(machine.id)
    with pytest.raises(NotFound):
        await engine.status(machine.id)


@pytest.mark.usefixtures("nothing_left")
async def test_what_runs_is_adopted_as_it_was(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        running, paused, stopped = [await engine.create(new_spec(name)) for name in ("running", "paused", "stopped")]
        paused = await engine.pause(paused.id)
        stopped = await engine.stop(stopped.id, memory=False)
    async with DockerEngine(settings) as later:
        assert await later.adopt() == [running, paused, stopped]
        assert (await later.link(running.id).exec(["true"])).exit_code == 0
        await later.resume(paused.id)
        await later.start(stopped.id)
        for machine in (running, paused, stopped):
            assert (await later.link(machine.id).exec(["true"])).exit_code == 0
            await later.destroy(machine.id)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("phase", [Phase.CREATING, Phase.DESTROYING])
async def test_what_was_half_made_or_half_ended_is_removed(settings: DockerSettings, phase: Phase) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    # Killed between Docker's answer and the record: the container's id is not known.
    alter(settings, machine.id, phase=phase, container="")
    async with DockerEngine(settings) as later:
        assert await later.adopt() == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STOPPING])
async def test_what_was_half_started_or_half_stopped_is_at_rest(settings: DockerSettings, phase: Phase) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    alter(settings, machine.id, phase=phase)
    async with DockerEngine(settings) as later:
        assert [found.status for found in await later.adopt()] == [Status.STOPPED]
        assert (await later.start(machine.id)).status is Status.RUNNING
        await later.destroy(machine.id)


@pytest.mark.usefixtures("nothing_left")
async def test_what_died_meanwhile_is_told_with_its_cause(settings: DockerSettings, docker: PrivateDocker) -> None:
    async with DockerEngine(settings) as engine:
        machines = [await engine.create(new_spec(name)) for name in ("killed", "removed")]
        names = [container_name(engine.host.instance, machine.id) for machine in machines]
    docker.docker("kill", names[0])
    docker.docker("rm", "--force", names[1])
    async with DockerEngine(settings) as later:
        first, second = await later.adopt()
        assert (first.status, second.status) == (Status.FAILED, Status.FAILED)
        assert first.cause is not None
        assert "SIGKILL" in first.cause.detail
        assert second.cause is not None
        assert "removed by hand" in second.cause.detail
        for machine in machines:
            await later.destroy(machine.id)


@pytest.mark.usefixtures("nothing_left")
async def test_containers_that_no_record_knows_are_removed(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    await anyio.Path(settings.sandboxes_dir / machine.id / "container.json").unlink()
    async with DockerEngine(settings) as later:
        assert await later.adopt() == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.usefixtures("nothing_left")
async def test_a_full_disk_keeps_nobody_from_their_sandboxes(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    alter(settings, machine.id, phase=Phase.STOPPING)
    async with DockerEngine(settings) as later:
        with full_disk(0):
            found = await later.adopt()
        assert [(one.id, one.status) for one in found] == [(machine.id, Status.STOPPED)]
        await later.destroy(machine.id)


async def test_a_damaged_record_is_shown_and_can_be_destroyed(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    await anyio.Path(settings.sandboxes_dir / machine.id / "container.json").write_bytes(b"{")
    async with DockerEngine(settings) as later:
        (wreck,) = await later.adopt()
        assert (wreck.id, wreck.status) == (machine.id, Status.FAILED)
        await later.destroy(machine.id)


async def test_another_engines_containers_are_left_alone(
    engine: DockerEngine, settings: DockerSettings, tmp_path: Path
) -> None:
    machine = await engine.create(new_spec())
    async with DockerEngine(replace(settings, state_dir=tmp_path / "other")) as other:
        assert await other.adopt() == []
        assert await other.list() == []
    assert (await engine.link(machine.id).exec(["true"])).exit_code == 0


@pytest.mark.usefixtures("nothing_left")
async def test_unused_agents_are_removed_and_used_ones_kept(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
    await anyio.Path(settings.agents_dir / "old").mkdir()
    async with DockerEngine(settings) as later:
        await later.adopt()
        record = await anyio.to_thread.run_sync(read_record, settings.sandboxes_dir / machine.id)
        assert record is not None
        assert await anyio.to_thread.run_sync(os.listdir, settings.agents_dir) == [record.agent]
        assert (await later.link(machine.id).exec(["true"])).exit_code == 0
        await later.destroy(machine.id)


@pytest.mark.usefixtures("nothing_left")
async def test_images_are_not_let_go_of_while_a_sandbox_is_made(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        engine._machines["new"] = DockerMachine.new(engine.host, new_spec())
        for ask in (engine.release_images, engine.needed_files):
            with pytest.raises(Busy):
                await ask()
        del engine._machines["new"]
        await engine.release_images()
        assert await engine.needed_files() == frozenset()


@pytest.mark.usefixtures("nothing_left")
async def test_the_network_lives_as_long_as_there_are_sandboxes(settings: DockerSettings) -> None:
    bridge = anyio.Path("/sys/class/net") / interface_name(instance_of(settings.state_dir))
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
        assert machine.address is not None
    assert await bridge.exists(), "it goes on running, and needs its network"
    async with DockerEngine(settings) as engine:
        await engine.adopt()
        await engine.destroy(machine.id)
    assert not await bridge.exists()


@pytest.mark.usefixtures("nothing_left")
async def test_sandboxes_of_different_users_are_on_networks_of_their_own(
    settings: DockerSettings, docker: PrivateDocker
) -> None:
    instance = instance_of(settings.state_dir)
    bridges = [anyio.Path("/sys/class/net") / interface_name(instance, owner) for owner in ("usr_a", "usr_b")]
    async with DockerEngine(settings) as engine:
        hers, other, his = [await engine.create(new_spec(owner=owner)) for owner in ("usr_a", "usr_a", "usr_b")]
        networks = [
            str(machine.address).rpartition(".")[0] for machine in (hers, other, his, await engine.create(new_spec()))
        ]
        assert networks[0] == networks[1]
        assert len(set(networks)) == 3
        await engine.stop(his.id, memory=False)
        await engine.start(his.id)
        await engine.destroy(hers.id)
        assert [await bridge.exists() for bridge in bridges] == [True, True], "another one of hers is there"
        await engine.destroy(other.id)
        await engine.destroy(his.id)
        assert [await bridge.exists() for bridge in bridges] == [False, False]
        docker.docker("network", "create", "--label", f"bhatti.instance={instance}", f"bhatti-{instance}-usr_c")
    async with DockerEngine(settings) as engine:
        for machine in await engine.adopt():
            await engine.destroy(machine.id)
        assert f"bhatti-{instance}-usr_c" not in docker.docker("network", "ls", "--format", "{{.Name}}")


@pytest.mark.usefixtures("nothing_left")
async def test_without_a_network_there_is_a_loopback(settings: DockerSettings) -> None:
    async with DockerEngine(replace(settings, network="none")) as engine:
        assert not engine.capabilities.bridge_network
        machine = await engine.create(new_spec())
        assert machine.address is None
        interfaces = await engine.link(machine.id).exec(["ls", "/sys/class/net"])
        assert interfaces.stdout == b"lo\n"
        await engine.destroy(machine.id)


@pytest.mark.usefixtures("nothing_left")
async def test_leaving_it_leaves_sandboxes_running_and_closes_its_links(settings: DockerSettings) -> None:
    async with DockerEngine(settings) as engine:
        machine = await engine.create(new_spec())
        link = engine.link(machine.id)
    with pytest.raises(Unavailable):
        await link.exec(["true"])
    await engine.aclose()  # twice is no harm
    async with DockerEngine(settings) as later:
        assert [found.status for found in await later.adopt()] == [Status.RUNNING]
        await later.destroy(machine.id)


async def test_one_that_died_is_noticed_though_nobody_asked(engine: DockerEngine) -> None:
    machine, ended = await engine.create(new_spec()), await engine.create(new_spec())
    told: list[str] = []
    engine.deaths.listen(told.append)
    await engine.destroy(ended.id)
    assert machine.pid is not None
    os.kill(machine.pid, 9)
    await eventually(lambda: bool(told))
    assert set(told) == {machine.id}
    record = read_record(engine.settings.sandboxes_dir / machine.id)
    assert record is not None
    assert record.phase is Phase.FAILED
