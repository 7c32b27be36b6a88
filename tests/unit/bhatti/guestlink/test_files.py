import contextlib
import json
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.guestlink.conftest import NewLink, until
from tests.unit.bhatti.guestlink.peers import Peer, listening, old_agent

from bhatti.errors import GuestFailure, GuestTimeout, InvalidRequest, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.deadlines import Deadlines
from bhatti.guestlink.files import UPLOAD_PIECE, list_dir
from lohar.wire.frames import FrameType, encode, encode_exit
from lohar.wire.messages import FileInfo, FileReadResponse, WatchEvents, WatchKind

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


class TestReading:
    @pytest.mark.parametrize("size", [0, 1, UPLOAD_PIECE, 5 * MEBIBYTE + 3])
    async def test_what_was_written_is_read(self, link: GuestLink, workspace: Path, size: int) -> None:
        path, data = str(workspace / "file"), os.urandom(size)
        await link.write_file(path, data)
        assert await link.read_file(path) == data
        assert (workspace / "file").read_bytes() == data

    async def test_a_download_says_size_and_mode_before_the_content(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "file"
        path.write_bytes(b"x" * 1000)
        path.chmod(0o640)
        async with link.open_read(str(path)) as download:
            assert (download.size, download.mode) == (1000, "0640")
            assert b"".join([chunk async for chunk in download.chunks()]) == b"x" * 1000
        assert link._pool.idle == 1, "a download that was finished gives its connection back"

    async def test_lines_and_bytes_can_be_chosen(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "lines"
        path.write_text("".join(f"line {number}\n" for number in range(1, 101)))
        assert await link.read_file(str(path), limit=2) == b"line 1\nline 2\n"
        assert await link.read_file(str(path), offset=99) == b"line 99\nline 100\n"
        assert await link.read_file(str(path), offset=50, limit=1) == b"line 50\n"
        assert await link.read_file(str(path), max_bytes=10) == b"line 1\nlin"
        assert await link.read_file(str(path), offset=1000) == b""

    @pytest.mark.parametrize("said", [{"size": -1, "mode": "0644"}, {"size": 1, "mode": "0644\r\nX: y"}])
    async def test_what_no_file_can_be_is_a_violation(
        self, tmp_path: Path, new_link: NewLink, said: dict[str, object]
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            for kind in (FrameType.FILE_STAT_REQ, FrameType.FILE_READ_REQ):
                await peer.expect(kind)
                await peer.send(kind + 1, json.dumps(said).encode())
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link()
            for ask in (link.stat, link.read_file):
                with pytest.raises(Unavailable, match=r"a file of -?1 bytes with the mode"):
                    await ask("/x")

    async def test_an_agent_that_sends_more_than_was_asked_for_is_given_up(
        self, tmp_path: Path, new_link: NewLink
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_READ_REQ)
            await peer.send(FrameType.FILE_READ_RESP, FileReadResponse(size=1).to_json())
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(FrameType.STDOUT, b"x" * 1000)

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable) as caught:
                await new_link().read_file("/proc/net/tcp", max_bytes=50_000)
            assert caught.value.code == "protocol-violation"

    @pytest.mark.parametrize(("path", "code"), [("/none", "no-such-file"), ("/etc", "is-a-directory")])
    async def test_what_cannot_be_read_is_the_agents_failure(self, link: GuestLink, path: str, code: str) -> None:
        with pytest.raises(GuestFailure) as caught:
            await link.read_file(path)
        assert caught.value.code == code

    async def test_leaving_early_stops_it_and_the_link_goes_on(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "large"
        path.write_bytes(bytes(32 * MEBIBYTE))
        async with link.open_read(str(path)) as download:
            async for chunk in download.chunks():
                assert chunk
                break
        assert link._pool.idle == 0
        assert (await link.stat(str(path))).size == 32 * MEBIBYTE

    async def test_cancelling_a_download_returns_at_once(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "large"
        path.write_bytes(bytes(10 * MEBIBYTE))
        with anyio.move_on_after(0) as scope:
            await link.read_file(str(path))
        assert scope.cancelled_caught
        assert await link.read_file(str(path), max_bytes=1) == b"\0"

    async def test_memory_stays_constant_however_large_the_file_is(self, link: GuestLink, workspace: Path) -> None:
        path, size = workspace / "large", 256 * MEBIBYTE
        with path.open("wb") as file:
            file.truncate(size)
        received = 0
        tracemalloc.start()
        try:
            async with link.open_read(str(path)) as download:
                async for chunk in download.chunks():
                    received += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert received == size
        assert peak < 4 * MEBIBYTE

    async def test_a_transfer_that_stalls_is_given_up(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_READ_REQ)
            await peer.send(FrameType.FILE_READ_RESP, FileReadResponse(size=10, mode="0644").to_json())
            await peer.send(FrameType.STDOUT, b"five.")
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            with pytest.raises(GuestTimeout):
                await new_link(deadlines=Deadlines(stall_s=0.05)).read_file("/a")

    async def test_an_error_in_the_middle_is_the_agents_failure(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_READ_REQ)
            answer = encode(FrameType.FILE_READ_RESP, b"{}") + encode(FrameType.STDOUT, b"five.")
            await peer.send_raw(answer + encode(FrameType.ERROR, b"read /a: input/output error"))
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            with pytest.raises(GuestFailure, match="input/output error"):
                await new_link().read_file("/a")

    @pytest.mark.parametrize("answer", [encode(FrameType.FILE_READ_RESP, b"[]"), encode(FrameType.STDOUT, b"x")])
    async def test_a_strange_answer_is_a_violation(self, tmp_path: Path, new_link: NewLink, answer: bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_READ_REQ)
            await peer.send_raw(answer)
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable, match="does not speak"):
                await new_link().read_file("/a")


class TestWriting:
    async def test_a_stream_is_written_with_its_mode(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "deep" / "er" / "file"
        await link.write_file(str(path), pieces(b"one ", b"", b"two"), size=7, mode="0600")
        assert path.read_bytes() == b"one two"
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("size", "data"), [(3, b"four"), (5, b"four")], ids=["too much", "too little"])
    async def test_a_stream_of_another_size_leaves_nothing(
        self, link: GuestLink, workspace: Path, size: int, data: bytes
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await link.write_file(str(workspace / "file"), pieces(data), size=size)
        assert caught.value.code == "bad-size"
        await link.activity()
        await until(lambda: not list(workspace.iterdir()))

    async def test_the_size_of_a_stream_must_be_given(self, link: GuestLink) -> None:
        with pytest.raises(InvalidRequest, match="size"):
            await link.write_file("/a", pieces(b"x"))

    async def test_a_source_that_fails_leaves_nothing(self, link: GuestLink, workspace: Path) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield bytes(MEBIBYTE)
            raise OSError("the disk of the host")

        with pytest.raises(OSError, match="the disk of the host"):
            await link.write_file(str(workspace / "file"), broken(), size=2 * MEBIBYTE)
        await until(lambda: not list(workspace.iterdir()))

    @pytest.mark.parametrize("size", [10, 8 * MEBIBYTE], ids=["small", "8 MiB"])
    async def test_a_refusal_comes_back_whatever_was_still_to_be_sent(self, link: GuestLink, size: int) -> None:
        with pytest.raises(GuestFailure) as caught:
            await link.write_file("/dev/null/file", bytes(size))
        assert caught.value.code == "not-a-directory"
        assert (await link.exec(["echo", "on"])).stdout == b"on\n"

    async def test_memory_stays_constant_however_large_the_upload_is(self, link: GuestLink, workspace: Path) -> None:
        count, piece = 64, bytes(MEBIBYTE)

        async def source() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield piece

        tracemalloc.start()
        try:
            await link.write_file(str(workspace / "large"), source(), size=count * MEBIBYTE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (workspace / "large").stat().st_size == count * MEBIBYTE
        assert peak < 4 * MEBIBYTE

    async def test_an_agent_that_takes_nothing_more_is_given_up(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await anyio.sleep_forever()

        async with listening(tmp_path / "agent", script):
            link = new_link(deadlines=Deadlines(stall_s=0.05))
            with pytest.raises(GuestTimeout, match="takes nothing more"):
                await link.write_file("/a", bytes(8 * MEBIBYTE))


class TestDescribing:
    async def test_a_file_is_described(self, link: GuestLink, workspace: Path) -> None:
        path = workspace / "n\u00e4me with (brackets) \U0001f600"
        path.write_bytes(b"1234567")
        path.chmod(0o644)
        info = await link.stat(str(path))
        assert (info.name, info.size, info.mode, info.is_dir) == (path.name, 7, "0644", False)
        assert info.mtime == int(path.stat().st_mtime)

    async def test_a_name_that_is_not_utf8_survives(self, link: GuestLink, workspace: Path) -> None:
        raw = os.fsencode(workspace) + b"/\xff\xfe"
        with open(raw, "wb"):  # noqa: ASYNC230, PTH123 - pathlib and anyio know no bytes
            pass
        (entry,) = await link.list_dir(str(workspace))
        assert os.fsencode(entry.name) == b"\xff\xfe"
        assert (await link.stat(os.fsdecode(raw))).size == 0

    async def test_a_directory_is_listed_in_order(self, link: GuestLink, workspace: Path) -> None:
        (workspace / "b").mkdir()
        for name in ("c", "a"):
            (workspace / name).touch()
        entries = await link.list_dir(str(workspace))
        assert [(entry.name, entry.is_dir) for entry in entries] == [("a", False), ("b", True), ("c", False)]
        assert await link.list_dir(str(workspace / "b")) == []

    async def test_a_directory_of_any_size_is_listed_whole(self, link: GuestLink, workspace: Path) -> None:
        names = [f"{number:06}-{'x' * 80}" for number in range(12_000)]
        for name in names:
            (workspace / name).touch()
        assert [entry.name for entry in await link.list_dir(str(workspace))] == names

    @pytest.mark.parametrize(("path", "code"), [("/none", "no-such-file"), ("/etc/passwd", "not-a-directory")])
    async def test_what_is_no_directory_is_not_listed(self, link: GuestLink, path: str, code: str) -> None:
        with pytest.raises(GuestFailure) as caught:
            await link.list_dir(path)
        assert caught.value.code == code
        with pytest.raises(GuestFailure):
            await link.stat("/none")

    async def test_an_old_agent_describes_too(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            link = new_link()
            assert (await link.stat("/etc/passwd")).size > 0
            assert await link.list_dir("/") == [FileInfo(name="b"), FileInfo(name="a")]

    async def test_a_listing_that_cannot_be_decoded_is_a_violation(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_LS_REQ)
            await peer.send_raw(
                encode(FrameType.FILE_LS_RESP, b'[{"size":"x"}]') + encode(FrameType.EXIT, encode_exit(0))
            )
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            with pytest.raises(Unavailable, match=r"FILE_LS_RESP: \[0\]\.size"):
                await new_link().list_dir("/")

    @pytest.mark.parametrize(
        ("payload", "limits"),
        [
            (b"[" + b",".join([b"{}"] * 1000) + b"]", {"max_entries": 10_000}),
            (b'[{"name":"%b"}]' % (b"x" * 1000), {"max_bytes": 100_000}),
            (b"[]", {"max_bytes": 1000}),
        ],
        ids=["of entries", "of bytes", "of nothing"],
    )
    async def test_a_listing_without_end_is_given_up(
        self, tmp_path: Path, new_link: NewLink, payload: bytes, limits: dict[str, int]
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_LS_REQ)
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(FrameType.FILE_LS_RESP, payload)

        async with listening(tmp_path / "agent", script):
            link = new_link()
            with pytest.raises(GuestFailure) as caught:
                await list_dir(link._exchange, "/", **limits)
            assert caught.value.code == "too-many-entries"
            assert not link._pool._busy


class TestWatching:
    async def test_changes_are_seen_from_the_first_moment(self, link: GuestLink, workspace: Path) -> None:
        async with link.watch(str(workspace)) as changes:
            (workspace / "file").write_bytes(b"x")
            seen: set[tuple[str, WatchKind]] = set()
            async for batch in changes:
                seen |= {(event.path, event.kind) for event in batch.events}
                if (str(workspace / "file"), WatchKind.MODIFIED) in seen:
                    break
        assert (str(workspace / "file"), WatchKind.CREATED) in seen
        assert (await link.exec(["true"])).exit_code == 0

    async def test_what_is_not_there_cannot_be_watched(self, link: GuestLink) -> None:
        with pytest.raises(GuestFailure) as caught:
            async with link.watch("/none"):
                pass
        assert caught.value.code == "no-such-file"

    async def test_an_old_agent_cannot_watch(self, tmp_path: Path, new_link: NewLink) -> None:
        async with listening(tmp_path / "agent", old_agent):
            with pytest.raises(GuestFailure) as caught:
                async with new_link().watch("/"):
                    pass
            assert caught.value.code == "unsupported"

    async def test_lost_events_and_the_end_are_passed_on(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_WATCH_REQ)
            await peer.send(FrameType.FILE_WATCH_EVENT, WatchEvents().to_json())
            await peer.send(FrameType.FILE_WATCH_EVENT, WatchEvents(overflow=True).to_json())
            await peer.send(FrameType.EXIT, encode_exit(0))
            await peer.gone()

        async with listening(tmp_path / "agent", script):
            link = new_link()
            async with link.watch("/") as changes:
                assert [batch async for batch in changes] == [WatchEvents(overflow=True)]
            assert link._pool.idle == 1

    async def test_a_watch_that_breaks_says_so(self, tmp_path: Path, new_link: NewLink) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.expect(FrameType.FILE_WATCH_REQ)
            await peer.send(FrameType.FILE_WATCH_EVENT, WatchEvents().to_json())
            await peer.send(FrameType.ERROR, b"the directory is gone")
            await peer.gone()

        async with listening(tmp_path / "agent", script), new_link().watch("/") as changes:
            with pytest.raises(GuestFailure, match="the directory is gone"):
                await anext(changes)
