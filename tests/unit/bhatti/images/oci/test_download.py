import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.serving import FakeRegistry, Request, Respond, Server, truncated

from bhatti.errors import CorruptData, OutOfSpace, Unavailable
from bhatti.images.oci.download import Blob, Downloads, Retry
from bhatti.images.oci.web import Answer, Transient, Web

Serve = Callable[[Respond], Server]
DATA = os.urandom(3_000_000)
BLOB = Blob("sha256:" + hashlib.sha256(DATA).hexdigest(), len(DATA), "test")
NO_WAIT = Retry(attempts=3, first_delay_s=0)


class Source:
    """A server with one blob, which answers as `answers` say and then rightly."""

    def __init__(self, serve: Serve, *answers: Respond, ranges: bool = True) -> None:
        self._answers = list(answers)
        self._registry = FakeRegistry(ranges=ranges)
        self._web = Web(plain=True, loopback=True, timeout_s=5)
        self.server = serve(self._respond)
        self.bytes = 0

    def _respond(self, request: Request) -> None:
        if self._answers:
            self._answers.pop(0)(request)
        else:
            self._registry.send_blob(request, DATA)

    def open(self, start: int) -> AbstractContextManager[Answer]:
        return self._web.request(self.server.url, {"Range": f"bytes={start}-"} if start else {})

    def count(self, size: int) -> None:
        self.bytes += size

    def starts(self) -> list[str]:
        return [seen.headers.get("range", "") for seen in self.server.seen]


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "downloads", NO_WAIT)


def fetch(downloads: Downloads, source: Source, blob: Blob = BLOB) -> bytes:
    with downloads.fetch(blob, source.open, source.count) as file:
        return file.read()


def left(downloads: Downloads) -> list[int]:
    return [path.stat().st_size for path in downloads.directory.iterdir()]


def test_a_blob_is_fetched_once(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve)
    assert fetch(downloads, source) == DATA
    assert source.bytes == len(DATA)
    assert fetch(downloads, source) == DATA
    assert len(source.server.seen) == 1


def test_an_empty_blob_needs_no_request(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve)
    assert fetch(downloads, source, Blob("sha256:" + hashlib.sha256().hexdigest(), 0, "test")) == b""
    assert source.server.seen == []


def test_a_download_that_breaks_off_goes_on_where_it_was(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve, truncated(DATA, 1_000_000))
    assert fetch(downloads, source) == DATA
    assert source.starts() == ["", "bytes=1000000-"]
    assert source.bytes == len(DATA)


def test_a_later_attempt_takes_up_what_an_earlier_one_left(downloads: Downloads, serve: Serve) -> None:
    nothing: Respond = lambda request: request.answer(  # noqa: E731
        206, length=1_000_000, Content_Range="bytes 2000000-2999999/3000000"
    )
    source = Source(serve, truncated(DATA, 2_000_000), nothing, nothing)
    with pytest.raises(Transient):
        fetch(downloads, source)
    assert left(downloads) == [2_000_000]
    assert fetch(downloads, source) == DATA
    assert source.starts()[-1] == "bytes=2000000-"


def test_a_server_without_ranges_is_asked_for_everything(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve, truncated(DATA, 1_000_000), ranges=False)
    assert fetch(downloads, source) == DATA
    assert source.bytes == len(DATA)


@pytest.mark.parametrize("content_range", ["bytes 5-9/10", "bytes 0-9/10", "", "items 1000000-2999999/3000000"])
def test_a_part_that_was_not_asked_for_is_not_taken(downloads: Downloads, serve: Serve, content_range: str) -> None:
    wrong: Respond = lambda request: request.answer(206, b"wrong", Content_Range=content_range)  # noqa: E731
    source = Source(serve, truncated(DATA, 1_000_000), wrong)
    assert fetch(downloads, source) == DATA
    assert source.starts() == ["", "bytes=1000000-", ""]


def test_what_was_left_wrong_is_fetched_again(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve)
    downloads.directory.mkdir()
    path = downloads.directory / BLOB.digest.replace(":", "-")
    for wrong in (b"wrong" + DATA[5:], b"wrong", DATA + b"more", b"x" * len(DATA)):
        path.write_bytes(wrong)
        assert fetch(downloads, source) == DATA


def test_a_registry_that_lies_is_found_out_and_nothing_is_kept(downloads: Downloads, serve: Serve) -> None:
    lies: list[Respond] = [
        lambda request: request.answer(200, b"x" * len(DATA)),
        lambda request: request.answer(200, DATA + b"more"),
        lambda request: request.answer(206, b"x" * len(DATA), Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
        lambda request: request.answer(416),
    ]
    for lie in lies:
        source = Source(serve, lie)
        with pytest.raises(CorruptData) as caught:
            fetch(downloads, source)
        assert caught.value.code == "digest-mismatch"
        assert left(downloads) == []
        assert len(source.server.seen) == 1  # the same lie again is not asked for


def test_a_blob_shorter_than_promised_is_tried_again_and_given_up(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve, *[lambda request: request.answer(200, DATA[:10])] * 9)
    with pytest.raises(Transient, match="before a blob was complete"):
        fetch(downloads, Source(serve, *[lambda request: request.answer(200, b"")] * 9))
    with pytest.raises((Transient, CorruptData)):
        fetch(downloads, source)
    assert len(source.server.seen) <= 4


def test_getting_somewhere_starts_the_count_of_failures_anew(downloads: Downloads, serve: Serve) -> None:
    steps: list[Respond] = []
    for start in range(0, 3_000_000, 300_000):
        end = start + 300_000
        steps.append(
            lambda request, s=start, e=end: request.answer(  # type: ignore[misc]
                206 if s else 200, DATA[s:e], length=len(DATA) - s, Content_Range=f"bytes {s}-{len(DATA) - 1}/*"
            )
        )
    assert fetch(downloads, Source(serve, *steps)) == DATA


def test_a_server_that_makes_us_begin_again_and_again_is_given_up(downloads: Downloads, serve: Serve) -> None:
    refuse: Respond = lambda request: request.answer(416)  # noqa: E731
    source = Source(serve, *[truncated(DATA, 1_000_000), refuse] * 9)
    with pytest.raises(Unavailable, match="never lets a blob end"):
        fetch(downloads, source)


def test_two_at_once_share_one_download(downloads: Downloads, serve: Serve) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def slowly(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        request.wfile.write(DATA[:1000])
        under_way.set()
        go_on.wait(60)
        request.wfile.write(DATA[1000:])

    source = Source(serve, slowly)
    found: list[bytes] = []
    first = threading.Thread(target=lambda: found.append(fetch(downloads, source)))
    first.start()
    assert under_way.wait(60)
    second = threading.Thread(target=lambda: found.append(fetch(downloads, source)))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert found == [DATA, DATA]
    assert len(source.server.seen) == 1


def test_a_blob_stays_readable_after_it_was_forgotten(downloads: Downloads, serve: Serve) -> None:
    source = Source(serve)
    with downloads.fetch(BLOB, source.open, source.count) as file:
        downloads.forget([BLOB.digest, "sha256:" + "0" * 64])
        assert left(downloads) == []
        assert file.read() == DATA


def test_whoever_gives_up_leaves_what_has_come(downloads: Downloads, serve: Serve) -> None:
    class GivenUp(Exception):
        pass

    def give_up(size: int) -> None:
        raise GivenUp

    source = Source(serve)
    with pytest.raises(GivenUp):
        downloads.fetch(BLOB, source.open, give_up)
    assert left(downloads)[0] > 0
    source.bytes = 0
    assert fetch(downloads, source) == DATA


def test_old_remains_are_swept_but_none_that_is_worked_on(downloads: Downloads) -> None:
    assert downloads.sweep() == 0
    downloads.directory.mkdir()
    for name, age in (("sha256-old", 100_000), ("sha256-young", 10), ("sha256-locked", 100_000), ("other", 100_000)):
        path = downloads.directory / name
        path.write_bytes(bytes(8192))
        now = path.stat().st_mtime
        os.utime(path, (now - age, now - age))
    with (downloads.directory / "sha256-locked").open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert downloads.sweep() == 8192
    assert sorted(path.name for path in downloads.directory.iterdir()) == ["other", "sha256-locked", "sha256-young"]


@pytest.mark.root
def test_a_full_disk_is_named_and_freed(tiny_disk: Path, serve: Serve) -> None:
    downloads = Downloads(tiny_disk / "downloads", NO_WAIT)
    with pytest.raises(OutOfSpace):
        fetch(downloads, Source(serve))
    assert left(downloads) == []


def test_delays_grow_up_to_a_limit_and_follow_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    retry = Retry(first_delay_s=1, max_delay_s=10)
    for failures in range(1, 7):
        retry.wait(failures)
    retry.wait(1, 7)
    retry.wait(1, 10_000)
    assert waited == [1, 2, 4, 8, 10, 10, 7, 10]
