import os
import socket
import threading
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.engines.qemu.conftest import StartQemu

from bhatti.engines.qemu import qmp
from bhatti.engines.qemu.qmp_protocol import Event
from bhatti.errors import Conflict, EngineFailure, Unavailable

pytestmark = pytest.mark.anyio


async def test_commands_are_answered(start_qemu: StartQemu, tmp_path: Path) -> None:
    await start_qemu("-M", "none", "-name", "guest=somebody")
    async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5) as monitor:
        assert await monitor.execute("query-name") == {"name": "somebody"}


async def test_several_commands_may_be_under_way(start_qemu: StartQemu, tmp_path: Path) -> None:
    await start_qemu()
    results: list[object] = []

    async def ask(monitor: qmp.Monitor) -> None:
        results.append(await monitor.execute("query-status"))

    async with (
        await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5) as monitor,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(ask, monitor)
    assert len(results) == 20
    assert all(isinstance(result, dict) and "status" in result for result in results)


async def test_what_qemu_refuses_is_reported_in_its_own_words(start_qemu: StartQemu, tmp_path: Path) -> None:
    await start_qemu()
    async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5) as monitor:
        with pytest.raises(EngineFailure, match=r"no-such-command.*has not been found.*CommandNotFound") as caught:
            await monitor.execute("no-such-command")
    assert caught.value.code == "monitor-refused"


async def test_events_reach_the_listener(start_qemu: StartQemu, tmp_path: Path) -> None:
    await start_qemu()
    events: list[Event] = []
    async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5, on_event=events.append) as monitor:
        await monitor.execute("stop")
        await monitor.execute("cont")
    assert [event.name for event in events] == ["STOP", "RESUME"]


async def test_events_of_one_name_are_collected_while_somebody_listens(start_qemu: StartQemu, tmp_path: Path) -> None:
    process = await start_qemu("-M", "none", "-S")
    async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=20) as monitor:
        with monitor.events("STOP") as stops:
            await monitor.execute("cont")
            await monitor.execute("stop")
            assert (await stops.next(timeout_s=5)).name == "STOP"
            with pytest.raises(Unavailable, match=r"no event STOP within 0\.01 s"):
                await stops.next(timeout_s=0.01)
            await process.end()
            with pytest.raises(Unavailable, match="closed its monitor"):
                await stops.next(timeout_s=5)


async def test_a_file_is_handed_over(start_qemu: StartQemu, tmp_path: Path) -> None:
    await start_qemu()
    (tmp_path / "file").write_text("x")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5) as monitor:
            await monitor.give_file("thing", file)
            await monitor.execute("closefd", {"fdname": "thing"})
            with pytest.raises(EngineFailure):
                await monitor.execute("closefd", {"fdname": "thing"})
    finally:
        os.close(file)


async def test_the_end_of_qemu_reaches_whoever_waits(start_qemu: StartQemu, tmp_path: Path) -> None:
    process = await start_qemu()
    monitor = await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5)
    await monitor.execute("quit")
    await process.wait()
    with pytest.raises((Unavailable, Conflict)):
        await monitor.execute("query-status")
    await monitor.aclose()
    assert monitor.closed


async def test_a_second_client_is_refused_in_time_while_the_first_is_there(
    start_qemu: StartQemu, tmp_path: Path
) -> None:
    await start_qemu()
    async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5):
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=0.2)


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    qmp.listen(tmp_path / "qmp.sock").close()
    with pytest.raises(Unavailable, match="Connection refused") as caught:
        await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5)
    assert caught.value.code == "monitor-unavailable"
    with pytest.raises(Unavailable, match="No such file"):
        await qmp.Monitor.connect(tmp_path / "none.sock", timeout_s=5)


async def test_another_program_behind_the_socket_is_named_as_such(tmp_path: Path) -> None:
    with qmp.listen(tmp_path / "qmp.sock") as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                connection.recv(1)

        other = threading.Thread(target=answer)
        other.start()
        with pytest.raises(EngineFailure, match="does not speak QMP") as caught:
            await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5)
        await anyio.to_thread.run_sync(other.join)
    assert caught.value.hint == "is the socket another program's?"


async def test_a_monitor_that_does_not_answer_a_command_is_given_up(tmp_path: Path) -> None:
    greeting = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}}}\n{"return": {}, "id": 1}\n'
    with qmp.listen(tmp_path / "qmp.sock") as listener:
        accepted: list[socket.socket] = []

        def answer() -> None:
            connection, _ = listener.accept()
            accepted.append(connection)
            connection.sendall(greeting.splitlines(keepends=True)[0])
            connection.recv(100)
            connection.sendall(greeting.splitlines(keepends=True)[1])

        other = threading.Thread(target=answer)
        other.start()
        async with await qmp.Monitor.connect(tmp_path / "qmp.sock", timeout_s=5) as monitor:
            with pytest.raises(Unavailable, match=r"did not answer 'stop' within 0\.1 s"):
                await monitor.execute("stop", timeout_s=0.1)
        await anyio.to_thread.run_sync(other.join)
        accepted[0].close()


async def test_socket_paths_may_be_longer_than_the_kernel_allows(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with qmp.listen(directory / "qmp.sock"):
        assert (directory / "qmp.sock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(Unavailable, match="within"):
            await qmp.Monitor.connect(directory / "qmp.sock", timeout_s=0.1)
