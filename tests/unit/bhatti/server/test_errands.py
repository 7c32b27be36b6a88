import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.serving import Served

from bhatti.errors import BhattiError, Conflict, GuestFailure, InvalidRequest
from bhatti.guestlink.client import GuestLink
from bhatti.server import errands
from bhatti.server.errands import Said, errand, failure, run

pytestmark = pytest.mark.anyio


@pytest.fixture
async def link(served: Served) -> GuestLink:
    await served.create()
    return await served.guest("one")


async def test_a_chore_is_done_by_whatever_python_there_is(link: GuestLink, tmp_path: Path) -> None:
    await run(link, "make", f"{tmp_path}/a/b", "0700", "parents")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


async def test_without_a_python_it_is_told(link: GuestLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "WAYS", ((["/no/such/python"], None),))
    with pytest.raises(GuestFailure) as caught:
        await run(link, "make", "/tmp/x", "0700", "")
    assert caught.value.code == "command-not-found"


async def test_a_program_that_ends_in_its_own_way_is_told(link: GuestLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        errands, "WAYS", ((["sh", "-c", "echo first >&2; echo 'no \033[31mroom' >&2; exit 9", "sh"], None),)
    )
    with pytest.raises(GuestFailure, match=r"exit code 9: no \\x1b\[31mroom") as caught:
        await run(link, "make", "/tmp/x", "0700", "")
    assert caught.value.code == "errand-failed"


async def test_output_is_passed_on_and_the_end_is_checked(link: GuestLink, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    async with errand(link, "send", f"{tmp_path}/file", "") as running:
        size = sum([len(piece) async for piece in running.output()])
    assert size > 100_000
    with pytest.raises(GuestFailure) as caught:
        async with errand(link, "send", f"{tmp_path}/none", "") as running:
            await anext(running.output())
    assert caught.value.code == "no-such-file"


async def test_input_that_breaks_off_lets_it_tidy_up(link: GuestLink, tmp_path: Path) -> None:
    async with errand(link, "send", str(Path(errands.__file__)), "file") as running:
        archive = b"".join([piece async for piece in running.output()])

    async def cut() -> AsyncIterator[bytes]:
        yield archive[:1000]
        with anyio.fail_after(60):
            while not os.listdir(tmp_path):  # noqa: ASYNC110, PTH208 - the program makes its draft
                await anyio.sleep(0.01)
        raise ConnectionResetError("the sender has gone")

    with pytest.raises(ConnectionResetError):
        async with errand(link, "receive", str(tmp_path)) as running:
            await running.feed(cut())
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_input_that_nobody_wants_is_not_waited_for(link: GuestLink, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"no tar archive" * 10_000

    with anyio.fail_after(60):
        with pytest.raises(InvalidRequest, match="no tar archive") as caught:
            async with errand(link, "receive", str(tmp_path)) as running:
                await running.feed(endless())
    assert caught.value.code == "bad-archive"


@pytest.mark.parametrize(
    ("number", "cls", "code"),
    [
        (errno.ENOSPC, GuestFailure, "disk-full"),
        (errno.EEXIST, Conflict, "file-exists"),
        (errno.ENOTEMPTY, Conflict, "directory-not-empty"),
        (errno.EROFS, GuestFailure, "read-only"),
        (9999, GuestFailure, "guest-failure"),
    ],
)
def test_errors_of_the_system_have_a_name(number: int, cls: type[BhattiError], code: str) -> None:
    error = failure(Said(errno=number, what="/x: words"))
    assert (type(error), error.code, error.message) == (cls, code, "/x: words")
