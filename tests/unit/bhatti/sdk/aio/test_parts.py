import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bhatti import AsyncSandbox, BhattiError
from bhatti.sdk.aio.finishing import in_thread
from bhatti.sdk.aio.parts import Files, Ports, Sessions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("part", [Files, Sessions, Ports])
async def test_the_examples_in_its_documentation_are_true(
    examples: Callable[[type], Awaitable[int]], part: type
) -> None:
    assert await examples(part) >= 3


async def test_a_tree_comes_back_as_it_went(sb: AsyncSandbox, tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "data").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "tree" / "run me").write_text("#!/bin/sh\necho ran")
    (tmp_path / "tree" / "run me").chmod(0o755)
    await sb.files.upload(tmp_path / "tree", "there")
    assert (await sb.run("'there/run me'")).stdout == "ran\n"
    await sb.files.download("there", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == bytes(range(256)) * 4096
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["deep", "run me"]
    assert (await sb.files.stat("there")).is_dir


async def test_a_cancelled_transfer_ends(sb: AsyncSandbox, tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        await sb.run("truncate -s 4G large", check=True)
        fetching = asyncio.gather(sb.files.download("large", tmp_path / "here"))
        while not any(await in_thread(lambda: [*tmp_path.glob("here*")])):
            pass
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert not await in_thread(lambda: [*tmp_path.glob("here*")])


async def test_a_file_that_cannot_be_fetched_leaves_none(sb: AsyncSandbox, tmp_path: Path) -> None:
    with pytest.raises(BhattiError):
        await sb.files.download("nothing", tmp_path / "here")
    assert await in_thread(lambda: [*tmp_path.iterdir()]) == []


async def test_what_is_there_can_be_looked_after(sb: AsyncSandbox) -> None:
    await sb.files.write("one/file", b"1")
    await sb.files.copy("one", "two")
    await sb.files.move("two/file", "three")
    await sb.files.remove("one", recursive=True)
    assert sorted(entry.name for entry in await sb.files.list()) == ["three", "two"]


async def test_bytes_and_text(sb: AsyncSandbox) -> None:
    await sb.files.write_text("word", "é", "latin-1")
    assert await sb.files.read("word") == b"\xe9"
    assert await sb.files.read_text("word", "latin-1") == "é"
