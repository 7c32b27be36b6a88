import asyncio
from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from bhatti import AsyncSandbox
from bhatti.errors import BhattiError

pytestmark = pytest.mark.anyio


async def test_both_directions_at_once_do_not_block_each_other(sb: AsyncSandbox) -> None:
    size = 0
    async for output in sb.stream("cat", stdin=(b"y" * (1 << 18) for _ in range(16))):
        size += len(output.data)
    assert size == 1 << 22


async def test_much_can_be_written_before_anything_is_read(sb: AsyncSandbox) -> None:
    async with sb.stream("cat", interactive=True) as cat:
        await cat.write(b"z" * (1 << 22))
        await cat.close_stdin()
        assert sum([len(output.data) async for output in cat]) == 1 << 22


async def test_one_task_writes_while_another_reads(sb: AsyncSandbox) -> None:
    async def write() -> None:
        for word in ("one", "two", "three"):
            await cat.write(f"{word}\n")
            await asyncio.sleep(0)
        await cat.close_stdin()

    async with sb.stream("cat; exit 5", interactive=True) as cat, anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        assert "".join([output.text async for output in cat]).split() == ["one", "two", "three"]
    assert (cat.exit_code, cat.reason) == (5, "exited")


async def test_a_killed_command_says_what_it_had_to_say(sb: AsyncSandbox) -> None:
    async with sb.stream("echo begun; exec sleep 600") as running:
        assert (await anext(running)).text == "begun\n"
        await running.kill()
        assert [output async for output in running] == []
    assert running.reason == "killed"


@pytest.mark.parametrize("how", ["block", "loop", "cancelled", "closed"])
async def test_leaving_a_command_ends_it(sb: AsyncSandbox, ended: Callable[[int], Awaitable[bool]], how: str) -> None:
    script, pid = "echo $$; exec sleep 600", 0
    if how == "loop":
        async for output in sb.stream(script):
            pid = int(output.text)
            break
    else:
        async with sb.stream(script) as running:
            pid = int((await anext(running)).text)
            if how == "cancelled":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(running), 0.01)
                assert await ended(pid)
            if how == "closed":
                await running.close()
                assert await ended(pid)
    assert await ended(pid)


async def test_one_who_waits_hears_that_it_was_closed(sb: AsyncSandbox) -> None:
    async with sb.stream("echo begun; exec sleep 600") as running:
        assert (await anext(running)).text == "begun\n"
        async with anyio.create_task_group() as tasks:
            waiting = anyio.Event()

            async def wait() -> None:
                waiting.set()
                with pytest.raises(BhattiError, match="it was closed"):
                    await anext(running)

            tasks.start_soon(wait)
            await waiting.wait()
            await running.close()
    with pytest.raises(ValueError, match="closed"):
        await running.write("late")


async def test_a_supply_that_fails_ends_the_command_and_is_told(sb: AsyncSandbox) -> None:
    def supply() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async for _ in sb.stream("cat; sleep 600", stdin=supply()):
            pass


async def test_a_terminal_outlives_those_who_look(sb: AsyncSandbox) -> None:
    unopened = sb.sessions.open("stty size; cat", rows=10, cols=33)
    with pytest.raises(ValueError, match="has not begun"):
        _ = unopened.session_id
    async with unopened as terminal:
        session = terminal.session_id
        assert await terminal.read() == b"10 33\r\n"
        assert terminal.exit_code is None
    async with sb.sessions.attach(session, since=2) as terminal:
        assert terminal.offset == 2
        assert terminal.gap == 0
        await terminal.resize(11, 44)
        await terminal.write(b"\x04")
        assert b"".join([data async for data in terminal]).startswith(b" 33\r\n")
        assert terminal.exit_code == 0
        assert await terminal.read() is None


async def test_a_terminal_whose_reader_was_cancelled_can_be_read_again(sb: AsyncSandbox) -> None:
    async with sb.sessions.open("cat") as terminal:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(terminal.read(), 0.01)
        await terminal.write("here\n")
        assert (await terminal.read() or b"").startswith(b"here")
        await terminal.write(b"\x04")
        async for _ in terminal:
            pass  # the echo may have come with what was read, or come now
    assert terminal.exit_code == 0


async def test_a_terminal_that_somebody_ends_says_so(sb: AsyncSandbox) -> None:
    async with sb.sessions.open("cat") as terminal:
        await sb.sessions.kill(terminal.session_id)
        assert [data async for data in terminal] == []
    assert terminal.exit_code == 137
