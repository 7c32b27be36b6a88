import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from tests.daemons import Daemon
from tests.serving import serving, short_directory

from bhatti import AsyncSandbox, CommandFailed
from bhatti.errors import BhattiError, Conflict, InvalidRequest, NotFound, Unauthorized, Unavailable
from bhatti.model.sandbox import Status, Temperature

pytestmark = pytest.mark.anyio


async def test_the_examples_in_its_documentation_are_true(examples: Callable[[type], Awaitable[int]]) -> None:
    assert await examples(AsyncSandbox) >= 6


async def test_a_block_destroys_what_it_made_and_leaves_alone_what_it_found(address: str) -> None:
    async with await AsyncSandbox.create("made") as made:
        async with await AsyncSandbox.connect("made") as found:
            assert found.id == made.id
        assert (await found.inspect()).status is Status.RUNNING
        assert repr(found) == "<AsyncSandbox made (running)>"
    with pytest.raises(NotFound):
        await AsyncSandbox.connect("made")
    await made.destroy()  # gone already: no error


async def test_a_cancelled_block_destroys_it_too(address: str) -> None:
    """With anyio, whose cancellation is repeated until it is heard."""
    made = anyio.Event()

    async def block() -> None:
        async with await AsyncSandbox.create("cancelled"):
            made.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(block)
        await made.wait()
        tasks.cancel_scope.cancel()
    with pytest.raises(NotFound):
        await AsyncSandbox.connect("cancelled")


@pytest.mark.parametrize("stdin", [None, "some"])
async def test_a_cancelled_run_ends_its_command(
    sb: AsyncSandbox, ended: Callable[[int], Awaitable[bool]], tmp_path: Path, stdin: str | None
) -> None:
    os.mkfifo(tmp_path / "pid")
    async with sb.stream(f"cat {tmp_path}/pid") as waiting:
        running = asyncio.gather(sb.run(f"sleep 600 & echo $! $$ > {tmp_path}/pid; wait", stdin=stdin))
        pids = [int(pid) for pid in (await anext(waiting)).text.split()]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert len(pids) == 2
    for pid in pids:
        assert await ended(pid)
    assert (await sb.run("echo usable", timeout=60)).stdout == "usable\n"


async def test_a_cancelled_create_leaves_nothing(address: str) -> None:
    async def there() -> bool:
        return "never" in [found.name for found in await AsyncSandbox.list()]

    creating = asyncio.gather(AsyncSandbox.create("never", image="silent"))
    while not creating.done() and not await there():
        pass  # asking is what takes the time
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    while await there():
        pass  # the daemon removes what there was of it
    async with await AsyncSandbox.create("never") as again:
        assert (await again.run("true")).ok


async def test_errors_are_typed(sb: AsyncSandbox) -> None:
    with pytest.raises(Conflict):
        await AsyncSandbox.create("one")
    with pytest.raises(InvalidRequest):
        await sb.run([])
    with pytest.raises(CommandFailed, match="exit code 4: no luck"):
        await sb.run("echo no luck >&2; exit 4", check=True)
    with pytest.raises(BhattiError) as caught:
        await sb.files.read("/nowhere")
    assert caught.value.code
    with pytest.raises(Unavailable) as nobody:
        await AsyncSandbox.list(url="unix:///nowhere/at.sock")
    assert nobody.value.code == "daemon-not-running"


async def test_a_command_has_what_it_was_given(sb: AsyncSandbox) -> None:
    done = await sb.run(["sh", "-c", "pwd; echo $WORD; cat"], cwd="/", env={"WORD": "w"}, stdin=b"in\0put")
    assert done.stdout_bytes == b"/\nw\nin\0put"
    assert (await sb.run("cat", stdin=(b"x" * 70_000 for _ in range(40)))).stdout_bytes == b"x" * 2_800_000


async def test_it_sleeps_and_wakes_and_says_so(sb: AsyncSandbox) -> None:
    assert (await sb.pause()).thermal is Temperature.WARM
    assert (await sb.resume()).thermal is Temperature.HOT
    assert (await sb.stop()).status is Status.STOPPED
    assert (await sb.start(memory=True)).status is Status.RUNNING
    assert (await sb.edit(labels_add={"a": "b"})).labels == {"a": "b"}


async def test_a_fork_goes_on_from_a_checkpoint(sb: AsyncSandbox) -> None:
    await sb.files.write_text("note", "then")
    await sb.checkpoint("then")
    await sb.files.write_text("note", "now")
    assert [found.name for found in await sb.checkpoints()] == ["then"]
    async with await sb.fork("past", checkpoint="then") as past:
        assert await past.files.read_text("note") == "then"
    await sb.restore("then")
    assert await sb.files.read_text("note") == "then"
    await sb.remove_checkpoint("then")
    assert await sb.checkpoints() == []


async def test_many_tasks_may_use_one(sb: AsyncSandbox) -> None:
    said = await asyncio.gather(*(sb.run(f"echo {number}") for number in range(20)))
    assert [int(result.stdout) for result in said] == list(range(20))


async def test_what_goes_on_by_itself_and_what_listens_to_nobody(sb: AsyncSandbox) -> None:
    left = await sb.spawn("sleep 600")
    assert (await sb.run(f"kill {left.pid} && rm {left.output_file}")).ok
    with pytest.raises(BhattiError) as caught:
        await sb.request(9)
    assert caught.value.code == "bad-gateway"


async def test_a_key_is_shown_on_tcp_with_every_kind_of_call() -> None:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(short_directory())
        served = await stack.enter_async_context(serving(directory, "listen=127.0.0.1:0"))
        key = await served.user("somebody")
        with pytest.raises(Unauthorized):
            await AsyncSandbox.list(url=served.url)
        async with await AsyncSandbox.create(url=served.url, api_key=key) as sandbox:
            assert (await sandbox.run("cat", stdin="over a socket")).stdout == "over a socket"
            async with await sandbox.fork() as other:
                assert (await other.run("true")).ok


def test_one_that_is_used_by_two_loops_and_never_closed_is_no_trouble(served: Daemon) -> None:
    """In a process of its own, where whatever is left open would be told."""
    script = f"""
        import asyncio
        from bhatti import AsyncSandbox
        sandbox = asyncio.run(AsyncSandbox.connect("one", url={str(served.endpoint)!r}))
        for _ in range(2):
            print(asyncio.run(sandbox.run("echo ran")).stdout, end="")
        async def leave():
            async for output in sandbox.stream("echo left; sleep 600"):
                print(output.text, end="")
                break
        asyncio.run(leave())
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", inspect.cleandoc(script)],
        env=served.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ran\nran\nleft\n", "")
