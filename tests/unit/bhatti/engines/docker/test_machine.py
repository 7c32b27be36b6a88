"""What happens to one container behind the engine's back, and what the engine does to it."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.dockerd import PrivateDocker, private_docker
from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.base import Machine
from bhatti.engines.docker.api_types import ContainerInfo
from bhatti.engines.docker.container import container_name
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.settings import DockerSettings
from bhatti.errors import BhattiError, Conflict, EngineFailure, GuestTimeout, InvalidRequest, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.commands import ExecResult
from bhatti.model.sandbox import GuestFile, Status, Temperature, VolumeAttachment

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

PATIENCE_S = 60


def name_in_docker(engine: DockerEngine, machine: Machine) -> str:
    return container_name(engine.host.instance, machine.id)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for what nobody announces: a change that the engine notices by itself, within milliseconds."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await anyio.sleep(0.01)


def refuses_link(engine: DockerEngine, machine: Machine) -> bool:
    try:
        engine.link(machine.id)
    except Conflict as error:
        return error.code == "not-running"
    return False


async def test_a_container_made_of_busybox_alone_is_a_sandbox(engine: DockerEngine) -> None:
    spec = new_spec(env={"A": "b"}, files=(GuestFile("/etc/deep/file", b"content", "0640"),))
    machine = await engine.create(spec)
    assert (machine.status, machine.temperature, machine.how) == (Status.RUNNING, Temperature.HOT, "booted")
    assert (machine.accelerator, machine.cause) == ("runc", None)
    assert machine.timings_ms.keys() == {"images", "config", "container", "start", "agent", "total"}
    link = engine.link(machine.id)
    result = await link.exec(["sh", "-c", "id -u; id -un; echo $A; cat /proc/sys/kernel/hostname; pwd"])
    assert result.stdout.decode().split() == ["1000", "lohar", "b", "box", "/home/lohar"]
    assert (await link.stat("/etc/deep/file")).mode == "0640"


async def test_init_reaps_and_ends_when_told_to(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    link = engine.link(machine.id)
    await link.exec(["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done"])
    orphans = "cat /proc/[0-9]*/stat | while read pid name state rest; do [ $state = Z ] && echo $name; done; true"
    assert (await link.exec(["sh", "-c", f"sleep 0.2; {orphans}"])).stdout == b""
    stopped = await engine.stop(machine.id, memory=False)
    assert (stopped.status, stopped.temperature, stopped.pid) == (Status.STOPPED, Temperature.COLD, None)


async def test_an_init_script_runs(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec(init="echo from-init > /tmp/init-was-here; exec sleep 1000"))
    link = engine.link(machine.id)

    async def has_run() -> bool:
        return (await link.exec(["cat", "/tmp/init-was-here"])).stdout == b"from-init\n"

    await eventually(has_run)
    assert [session.session_id for session in await link.sessions()] == ["init"]


async def test_a_stopped_one_keeps_its_disk_and_loses_its_processes(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec(files=(GuestFile("/tmp/given", b"first"),)))
    link = engine.link(machine.id)
    await link.write_file("/home/lohar/kept", b"kept")
    await link.write_file("/tmp/given", b"edited")
    await link.detach(["sleep", "1000"])
    await engine.stop(machine.id, memory=False)
    assert refuses_link(engine, machine)
    again = await engine.start(machine.id)
    assert (again.status, again.how, again.cause) == (Status.RUNNING, "disk-boot", None)
    assert "keeps its disk" in again.why
    link = engine.link(machine.id)
    assert await link.read_file("/home/lohar/kept") == b"kept"
    assert await link.read_file("/tmp/given") == b"edited", "files are put in once"
    assert (await link.exec(["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep"])).stdout == b"0\n"


async def test_what_is_seen_of_a_start_is_not_taken_for_somebody_elses(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = await engine.create(new_spec())
    await engine.stop(made.id, memory=False)
    docker = engine._machines[made.id]._docker
    start, inspect = docker.start, docker.inspect
    asked, runs = anyio.Event(), anyio.Event()

    async def launched() -> None:
        await start()
        runs.set()

    async def slow() -> ContainerInfo | None:
        monkeypatch.setattr(docker, "inspect", inspect)
        asked.set()
        await runs.wait()
        return await inspect()

    monkeypatch.setattr(docker, "start", launched)
    monkeypatch.setattr(docker, "inspect", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.status, made.id)
        await asked.wait()
        assert (await engine.start(made.id)).status is Status.RUNNING
    assert not [record for record in caplog.records if "by hand" in record.message]
    await engine.link(made.id).activity()


async def test_memory_cannot_be_kept_and_the_api_says_so(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    assert not engine.capabilities.memory_snapshot
    with pytest.raises(InvalidRequest) as caught:
        await engine.stop(machine.id)
    assert caught.value.code == "unsupported"
    assert (await engine.status(machine.id)).status is Status.RUNNING
    await engine.stop(machine.id, memory=False)
    with pytest.raises(Conflict) as lost:
        await engine.start(machine.id, require_memory=True)
    assert lost.value.code == "memory-lost"
    assert (await engine.status(machine.id)).status is Status.STOPPED


async def test_illegal_moves_are_refused_with_the_legal_ones(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    with pytest.raises(Conflict) as running:
        await engine.start(machine.id)
    await engine.stop(machine.id, memory=False)
    with pytest.raises(Conflict) as stopped:
        await engine.stop(machine.id, memory=False)
    assert running.value.code == stopped.value.code == "illegal-transition"
    for call in (engine.pause, engine.resume):
        with pytest.raises(Conflict) as cold:
            await call(machine.id)
        assert cold.value.code == "not-running"


async def has_ticked(link: GuestLink) -> bool:
    return (await link.exec(["cat", "/tmp/ticks"])).stdout != b""


async def test_a_paused_one_is_warm_and_goes_on_where_it_was(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    link = engine.link(machine.id)
    ticking = "i=0; while :; do i=$((i+1)); echo $i > /tmp/ticks; sleep 0.02; done"
    await link.detach(["sh", "-c", ticking])
    await eventually(lambda: has_ticked(link))
    warm = await engine.pause(machine.id)
    assert (warm.status, warm.temperature) == (Status.RUNNING, Temperature.WARM)
    assert refuses_link(engine, machine)
    assert await engine.pause(machine.id) == warm
    hot = await engine.resume(machine.id)
    assert hot.temperature is Temperature.HOT
    assert await engine.resume(machine.id) == hot
    assert engine.link(machine.id) is link, "connections outlive a pause"
    before = int(await link.read_file("/tmp/ticks") or b"0")

    async def ticks_on() -> bool:
        return int(await link.read_file("/tmp/ticks") or b"0") > before

    await eventually(ticks_on)


async def test_pauses_and_resumes_in_quick_succession_mean_what_they_say(engine: DockerEngine) -> None:
    """Docker's own books go wrong then: late events of a resume undo the next pause in them, and only in them."""
    machine = await engine.create(new_spec())
    link = engine.link(machine.id)
    for _ in range(25):
        assert (await engine.pause(machine.id)).temperature is Temperature.WARM
        assert (await engine.resume(machine.id)).temperature is Temperature.HOT
        with anyio.fail_after(PATIENCE_S):
            assert (await link.exec(["true"])).exit_code == 0
    await engine.pause(machine.id)
    for _ in range(5):
        assert (await engine.status(machine.id)).temperature is Temperature.WARM
    assert (await engine.ensure_hot(machine.id)).temperature is Temperature.HOT
    assert (await link.exec(["true"])).exit_code == 0


@pytest.mark.parametrize("temperature", ["hot", "warm", "cold"])
async def test_ensure_hot_wakes_from_everywhere(engine: DockerEngine, temperature: str) -> None:
    machine = await engine.create(new_spec())
    if temperature == "warm":
        await engine.pause(machine.id)
    if temperature == "cold":
        await engine.stop(machine.id, memory=False)
    assert (await engine.ensure_hot(machine.id)).temperature is Temperature.HOT
    assert (await engine.link(machine.id).exec(["true"])).exit_code == 0


async def test_a_paused_one_can_be_stopped(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    await engine.pause(machine.id)
    with anyio.fail_after(engine.settings.stop_timeout_s / 2):
        assert (await engine.stop(machine.id, memory=False)).status is Status.STOPPED
    assert (await engine.start(machine.id)).temperature is Temperature.HOT


async def test_one_paused_by_hand_is_noticed_without_asking(engine: DockerEngine, docker: PrivateDocker) -> None:
    machine = await engine.create(new_spec())
    await anyio.to_thread.run_sync(docker.docker, "pause", name_in_docker(engine, machine))
    await eventually(lambda: refuses_link(engine, machine))
    assert (await engine.status(machine.id)).temperature is Temperature.WARM
    await anyio.to_thread.run_sync(docker.docker, "unpause", name_in_docker(engine, machine))
    await eventually(lambda: not refuses_link(engine, machine))
    assert (await engine.link(machine.id).exec(["true"])).exit_code == 0


async def test_one_removed_by_hand_is_noticed_without_asking(engine: DockerEngine, docker: PrivateDocker) -> None:
    machine = await engine.create(new_spec())
    await anyio.to_thread.run_sync(docker.docker, "rm", "--force", name_in_docker(engine, machine))
    await eventually(lambda: refuses_link(engine, machine))

    async def told() -> bool:
        dead = await engine.status(machine.id)
        return dead.status is Status.FAILED and dead.cause is not None and "removed by hand" in dead.cause.detail

    await eventually(told)
    with pytest.raises(Conflict):
        await engine.ensure_hot(machine.id)
    with pytest.raises(EngineFailure) as caught:
        await engine.start(machine.id)
    assert caught.value.code == "container-gone"
    await engine.destroy(machine.id)


async def test_one_stopped_by_hand_has_failed_and_can_be_started(engine: DockerEngine, docker: PrivateDocker) -> None:
    machine = await engine.create(new_spec())
    await anyio.to_thread.run_sync(docker.docker, "stop", name_in_docker(engine, machine))
    dead = await engine.status(machine.id)
    assert (dead.status, dead.temperature) == (Status.FAILED, Temperature.COLD)
    assert dead.cause is not None
    assert dead.cause.kind == "exit"
    assert "lohar: ready" in dead.cause.console_tail
    again = await engine.start(machine.id)
    assert (again.status, again.cause) == (Status.RUNNING, None)


async def test_a_stopped_one_started_by_hand_runs(engine: DockerEngine, docker: PrivateDocker) -> None:
    machine = await engine.create(new_spec())
    await engine.stop(machine.id, memory=False)
    await anyio.to_thread.run_sync(docker.docker, "start", name_in_docker(engine, machine))
    found = await engine.status(machine.id)
    assert found.status is Status.RUNNING
    assert "by hand" in found.why
    await engine.link(machine.id).wait_ready(timeout_s=PATIENCE_S)


HOG = "x=x; while :; do x=$x$x; done"


async def test_a_command_that_takes_too_much_memory_ends_alone_and_says_so(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    link = engine.link(machine.id)
    result = await link.exec(["sh", "-c", HOG], timeout_s=60)
    assert (result.exit_code, result.reason) == (137, "oom")
    assert result.oom is not None
    assert result.oom.limit_bytes == 128 << 20
    assert (await engine.status(machine.id)).status is Status.RUNNING
    assert (await link.exec(["true"])).reason == "exited"
    killed = await link.exec(["sh", "-c", "kill -9 $$"])
    assert killed.reason == "signalled", "not every SIGKILL is for want of memory"


async def test_an_init_that_is_killed_for_want_of_memory_is_told_as_that(engine: DockerEngine) -> None:
    """As long as the agent is the smallest it is the last to be chosen: here it asks to be the first."""
    machine = await engine.create(new_spec())
    scores = "echo 0 > /proc/self/oom_score_adj; echo 1000 > /proc/1/oom_score_adj"
    # The agent sets its own score after it has started a program, and before it passes on any input.
    hog = ["sh", "-c", f"read line; {scores}; {HOG}"]
    with pytest.raises(Unavailable):
        await engine.link(machine.id).exec(hog, user="root", stdin=b"go\n", timeout_s=PATIENCE_S)
    await eventually(lambda: refuses_link(engine, machine))
    found = await engine.status(machine.id)
    assert found.status is Status.FAILED
    assert found.cause is not None
    assert (found.cause.kind, "128 MiB" in found.cause.detail) == ("oom", True)
    again = await engine.start(machine.id)
    assert (again.status, again.cause) == (Status.RUNNING, None)


async def test_a_container_whose_init_dies_at_the_start_is_told_with_its_words(engine: DockerEngine) -> None:
    impossible = (GuestFile("not/absolute", b""),)
    with anyio.fail_after(PATIENCE_S), pytest.raises(EngineFailure, match=r"status 1: .*not/absolute") as caught:
        await engine.create(new_spec(files=impossible))
    assert caught.value.code == "boot-failed"
    assert await engine.list() == []


async def test_an_agent_that_does_not_answer_is_told_at_the_deadline(
    settings: DockerSettings, engine: DockerEngine
) -> None:
    async with DockerEngine(replace(settings, boot_timeout_s=0.001)) as impatient:
        with pytest.raises(GuestTimeout, match=r"within 0\.001 s") as caught:
            await impatient.create(new_spec())
        assert await impatient.list() == []
    assert caught.value.code == "boot-timeout"


async def test_a_start_that_fails_says_so_and_can_be_tried_again(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    await engine.stop(machine.id, memory=False)
    config = engine.settings.homes_dir / machine.id / "config/config.json"
    content = await anyio.Path(config).read_bytes()
    await anyio.Path(config).write_bytes(b"not JSON")
    with pytest.raises(EngineFailure, match="boot failed"):
        await engine.start(machine.id)
    failed = await engine.status(machine.id)
    assert failed.status is Status.FAILED
    assert failed.cause is not None
    assert failed.cause.kind == "boot-failed"
    await anyio.Path(config).write_bytes(content)
    assert (await engine.start(machine.id)).status is Status.RUNNING


async def test_a_cancelled_start_leaves_it_stopped(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    await engine.stop(machine.id, memory=False)
    with anyio.CancelScope() as scope:
        await engine.start(machine.id, progress=lambda stage: scope.cancel() if stage == "agent" else None)
    assert scope.cancelled_caught
    assert (await engine.status(machine.id)).status is Status.STOPPED
    assert (await engine.start(machine.id)).status is Status.RUNNING


async def test_a_volume_outlives_sandboxes_and_has_one_writer(engine: DockerEngine) -> None:
    await engine.volumes.create("data", 64)
    volumes = (VolumeAttachment("data", "/data"),)
    first = await engine.create(new_spec(volumes=volumes))
    await engine.link(first.id).write_file("/data/kept", b"kept")
    assert (await engine.link(first.id).exec(["touch", "/data/mine"])).exit_code == 0, "it belongs to the user"
    with pytest.raises(Conflict) as caught:
        await engine.create(new_spec(volumes=volumes))
    assert caught.value.code == "volume-in-use"
    reader = await engine.create(new_spec(volumes=(VolumeAttachment("data", "/data", read_only=True),)))
    assert await engine.link(reader.id).read_file("/data/kept") == b"kept"
    refused = await engine.link(reader.id).exec(["touch", "/data/kept"], user="root")
    assert b"Read-only" in refused.stderr
    await engine.destroy(first.id)
    await engine.destroy(reader.id)
    second = await engine.create(new_spec(volumes=volumes))
    assert await engine.link(second.id).read_file("/data/kept") == b"kept"
    await engine.destroy(second.id)


async def test_a_program_inside_cannot_gain_rights(engine: DockerEngine) -> None:
    machine = await engine.create(new_spec())
    link = engine.link(machine.id)
    status = (await link.read_file("/proc/self/status")).decode()
    result = await link.exec(["cat", "/proc/self/status"])
    fields = dict(line.split(":\t", 1) for line in result.stdout.decode().splitlines())
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert int(fields["CapEff"], 16) == 0
    assert "CapBnd:\t00000000000024fb" in status
    assert (await link.exec(["touch", "/run/bhatti/agent/x"], user="root")).exit_code != 0


async def test_a_bomb_of_processes_is_contained(settings: DockerSettings, engine: DockerEngine) -> None:
    async with DockerEngine(replace(settings, pids_limit=32)) as limited:
        machine = await limited.create(new_spec())
        link = limited.link(machine.id)
        bomb = "for i in $(seq 100); do sleep 5 & done"
        with contextlib.suppress(BhattiError):
            await link.exec(["sh", "-c", bomb], timeout_s=5)
        assert (await limited.status(machine.id)).status is Status.RUNNING
        await limited.destroy(machine.id)


async def test_a_docker_that_hangs_leaves_the_sandbox_reachable(tmp_path: Path, images_dir: Path) -> None:
    """The daemon need not have Docker to reach what runs; orders fail with the reason, and nothing is lost."""
    with private_docker() as own:
        await own.import_tiny()
        settings = DockerSettings(state_dir=tmp_path / "state", images_dir=images_dir, socket=own.socket, pull=False)
        async with DockerEngine(settings) as engine:
            machine = await engine.create(new_spec())
            link = engine.link(machine.id)
            own.hold()
            try:
                assert (await link.exec(["true"])).exit_code == 0
            finally:
                own.go_on()
            await engine.destroy(machine.id)


async def test_a_docker_restarted_in_the_middle_of_an_exec(tmp_path: Path, images_dir: Path) -> None:
    """dockerd ends its containers when it stops: the exec fails at once, the cause is told, the disk is there."""
    with private_docker() as own:
        await own.import_tiny()
        settings = DockerSettings(state_dir=tmp_path / "state", images_dir=images_dir, socket=own.socket, pull=False)
        async with DockerEngine(settings) as engine:
            machine = await engine.create(new_spec())
            link = engine.link(machine.id)
            await link.write_file("/home/lohar/kept", b"kept")
            outcomes: list[ExecResult | BhattiError] = []

            async def run_for_long() -> None:
                try:
                    outcomes.append(await link.exec(["sleep", "1000"]))
                except BhattiError as error:
                    outcomes.append(error)

            async def sleeps() -> bool:
                return b"sleep" in (await link.exec(["sh", "-c", "cat /proc/[0-9]*/comm"])).stdout

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_for_long)
                await eventually(sleeps)
                await anyio.to_thread.run_sync(own.end)
            # dockerd asks the container to end: the agent may have the time to tell that it killed the command.
            (outcome,) = outcomes
            assert isinstance(outcome, Unavailable) or (isinstance(outcome, ExecResult) and outcome.exit_code == 143)
            down = await engine.status(machine.id)
            assert down.status is Status.FAILED or "does not answer" in down.why
            await anyio.to_thread.run_sync(own.start)
            dead = await engine.status(machine.id)
            assert dead.status is Status.FAILED
            assert dead.cause is not None
            again = await engine.start(machine.id)
            assert again.status is Status.RUNNING
            assert await engine.link(machine.id).read_file("/home/lohar/kept") == b"kept"
            await unseen_events(engine, own, again)
            await engine.destroy(machine.id)


async def unseen_events(engine: DockerEngine, own: PrivateDocker, machine: Machine) -> None:
    """Prove that the events of the new dockerd are heard."""
    await anyio.to_thread.run_sync(own.docker, "pause", name_in_docker(engine, machine))
    await eventually(lambda: refuses_link(engine, machine))
    await anyio.to_thread.run_sync(own.docker, "unpause", name_in_docker(engine, machine))
    await eventually(lambda: not refuses_link(engine, machine))
