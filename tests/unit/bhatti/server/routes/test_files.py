import asyncio
import hashlib
import io
import json
import os
import resource
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.serving import Served

from bhatti.server.routes import files

pytestmark = pytest.mark.anyio

URL = "/sandboxes/one/files"


async def pieces(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_what_is_written_is_read_back(served: Served, tmp_path: Path, announced: bool, size: int) -> None:
    data = os.urandom(size)
    query = {"path": str(tmp_path / "new" / "file"), "mode": "0600"}
    body = io.BytesIO(data) if announced else pieces(data)
    async with served.http.put(URL, params=query, data=body) as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o600
    async with served.http.get(URL, params={"path": query["path"]}) as response:
        assert response.headers["X-File-Size"] == response.headers["Content-Length"] == str(size)
        assert response.headers["X-File-Mode"] == "0600"
        assert response.content_type == "application/octet-stream"
        assert await response.read() == data


async def test_a_file_of_the_kernel_is_read_although_it_has_no_size(served: Served) -> None:
    async with served.http.get(URL, params={"path": "/proc/sys/kernel/ostype"}) as response:
        assert (response.headers["X-File-Size"], await response.read()) == ("0", b"Linux\n")


async def test_a_name_that_is_no_text_hides_no_other(served: Served, tmp_path: Path) -> None:
    for name in (b"plain", b"caf\xe9"):
        await anyio.Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    async with served.http.get(URL, params={"path": str(tmp_path), "ls": "true"}) as response:
        assert response.status == 200
        assert [entry["name"] for entry in await response.json()] == ["caf\ufffd", "plain"]


async def test_some_lines_of_a_file_are_read(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("".join(f"line {n}\n" for n in range(1, 101)))
    for query, expected in (
        ({"offset": "50", "limit": "2"}, "line 50\nline 51\n"),
        ({"limit": "1"}, "line 1\n"),
        ({"max_bytes": "6"}, "line 1"),
        ({"offset": "100"}, "line 100\n"),
        ({"offset": "500", "limit": "5"}, ""),
    ):
        async with served.http.get(URL, params={"path": str(tmp_path / "file"), **query}) as response:
            assert await response.text() == expected
            assert "Content-Length" not in response.headers


async def test_a_directory_is_listed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"12345")
    (tmp_path / "a").mkdir()
    async with served.http.get(URL, params={"path": str(tmp_path), "ls": "true"}) as response:
        found = await response.json()
    assert [(entry["name"], entry["is_dir"]) for entry in found] == [("a", True), ("b", False)]
    assert found[1]["size"] == 5


async def test_a_file_is_described_in_headers(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234567")
    async with served.http.head(URL, params={"path": str(tmp_path / "file")}) as response:
        assert response.status == 200
        assert (response.headers["X-File-Size"], response.headers["X-File-IsDir"]) == ("7", "false")
    async with served.http.head(URL, params={"path": str(tmp_path)}) as response:
        assert response.headers["X-File-IsDir"] == "true"


@pytest.mark.parametrize(
    ("method", "query", "status", "code"),
    [
        ("GET", {"path": "/no/such"}, 404, "no-such-file"),
        ("GET", {"path": "/no/such", "ls": "true"}, 404, "no-such-file"),
        ("GET", {"path": "/etc"}, 422, "is-a-directory"),
        ("GET", {"path": "/etc/passwd", "ls": "true"}, 422, "not-a-directory"),
        ("PUT", {"path": "/etc/passwd/x"}, 422, "not-a-directory"),
        ("PUT", {"path": "/etc"}, 422, "is-a-directory"),
        ("GET", {}, 400, "invalid-field"),
        ("GET", {"path": ""}, 400, "invalid-field"),
        ("GET", {"path": "/" + "x" * 5000}, 400, "invalid-field"),
        ("GET", {"path": "/a\0b"}, 400, "bad-path"),
        ("PUT", {"path": "/tmp/x", "mode": "rwx"}, 400, "invalid-field"),
        ("PUT", {"path": "/tmp/x", "offset": "1"}, 400, "invalid-field"),
    ],
)
async def test_what_cannot_be_done_is_told(
    served: Served, method: str, query: dict[str, str], status: int, code: str
) -> None:
    async with served.http.request(method, URL, params=query, data=b"x" if method == "PUT" else None) as response:
        body = await response.json()
    assert (response.status, body["code"]) == (status, code)


async def test_a_file_that_is_not_there_is_404_for_head(served: Served) -> None:
    async with served.http.head(URL, params={"path": "/no/such"}) as response:
        assert response.status == 404


async def test_an_upload_that_breaks_off_leaves_nothing(served: Served, tmp_path: Path) -> None:
    _, writer = await asyncio.open_unix_connection(str(served.settings.socket))
    head = f"PUT {URL}?path={tmp_path}/file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    writer.write(head.encode() + b"x" * 100_000)
    await writer.drain()
    with anyio.fail_after(60):
        while not os.listdir(tmp_path):  # noqa: ASYNC110, PTH208 - the agent makes its draft
            await anyio.sleep(0.005)
        writer.transport.abort()
        while os.listdir(tmp_path):  # noqa: ASYNC110, PTH208
            await anyio.sleep(0.005)
    async with served.http.get("/health") as response:
        assert response.status == 200


async def test_what_has_no_length_leaves_the_disk_to_others(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SPOOL_SPARE_BYTES", 1 << 60)
    monkeypatch.setattr(files, "SPOOL_DIRECTORY", str(tmp_path))
    async with served.http.put(
        URL, params={"path": str(tmp_path / "file")}, data=pieces(bytes(files.SPOOL_LOOK_BYTES + 1), 1 << 20)
    ) as response:
        assert (response.status, (await response.json())["code"]) == (507, "out-of-space")
    assert not os.listdir(tmp_path)  # noqa: PTH208


async def test_a_large_file_goes_through_in_constant_memory(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SPOOL_DIRECTORY", str(tmp_path))
    piece, count = os.urandom(1 << 20), 200
    expected = hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for _ in range(count):
            expected.update(piece)
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served.http.put(URL, params={"path": str(tmp_path / "big")}, data=source()) as response:
        assert response.status == 200
    found = hashlib.sha256()
    async with served.http.get(URL, params={"path": str(tmp_path / "big")}) as response:
        async for chunk in response.content.iter_any():
            found.update(chunk)
    assert found.digest() == expected.digest()
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 64, f"{grown_mib:.0f} MiB more for 200 MiB carried both ways"


def below(path: Path) -> list[Path]:
    return list(path.rglob("*"))


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {found.name: found for found in archive}


async def test_a_directory_is_made(served: Served, tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b")
    for body, status, code in (
        ({"path": path, "parents": False}, 404, "no-such-file"),
        ({"path": path, "mode": "0750"}, 200, None),
        ({"path": path}, 200, None),
        ({"path": path, "parents": False}, 409, "file-exists"),
        ({"path": "/etc/passwd"}, 422, "not-a-directory"),
        ({"path": "/x\0"}, 400, "bad-path"),
    ):
        async with served.http.post(f"{URL}/mkdir", json=body) as response:
            assert (response.status, (await response.json()).get("code")) == (status, code), body
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o750


async def test_things_are_removed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("full")
    for query, status, code in (
        ({"path": f"{tmp_path}/link", "recursive": "true"}, 200, None),
        ({"path": f"{tmp_path}/full"}, 409, "directory-not-empty"),
        ({"path": f"{tmp_path}/empty"}, 200, None),
        ({"path": f"{tmp_path}/full", "recursive": "true"}, 200, None),
        ({"path": f"{tmp_path}/full"}, 404, "no-such-file"),
        ({"path": "/", "recursive": "true"}, 400, "bad-path"),
        ({"path": "/usr/..", "recursive": "true"}, 400, "bad-path"),
    ):
        async with served.http.delete(URL, params=query) as response:
            assert (response.status, (await response.json()).get("code")) == (status, code), query
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_things_are_moved_and_copied(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("content")
    for chore, source, target, status in (
        ("copy", "a", "b/c", 200),
        ("move", "a/file", "b/new/name", 200),
        ("move", "none", "x/y", 404),
        ("copy", "none", "x/y", 404),
        ("copy", "b", "b/inside", 422),
    ):
        body = {"source": f"{tmp_path}/{source}", "target": f"{tmp_path}/{target}"}
        async with served.http.post(f"{URL}/{chore}", json=body) as response:
            assert response.status == status, await response.text()
    assert sorted(str(path.relative_to(tmp_path)) for path in below(tmp_path)) == [
        "a", "b", "b/c", "b/c/file", "b/new", "b/new/name",
    ]  # fmt: skip


async def test_a_directory_travels_as_one_archive(served: Served, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "run").write_bytes(b"#!")
    (tmp_path / "from" / "sub" / "run").chmod(0o750)
    (tmp_path / "from" / "link").symlink_to("sub/run")
    async with served.http.get(f"{URL}/archive", params={"path": f"{tmp_path}/from"}) as response:
        assert response.status == 200
        data = await response.read()
    assert list(members(data)) == [".", "link", "sub", "sub/run"]
    async with served.http.put(f"{URL}/archive", params={"path": f"{tmp_path}/to"}, data=data) as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    assert (tmp_path / "to" / "link").readlink() == Path("sub/run")
    assert (tmp_path / "to" / "sub" / "run").stat().st_mode & 0o777 == 0o750
    async with served.http.get(f"{URL}/archive", params={"path": f"{tmp_path}/from/sub/run", "name": "x"}) as response:
        assert list(members(await response.read())) == ["x"]


async def test_archives_that_cannot_be_are_told(served: Served, tmp_path: Path) -> None:
    async with served.http.get(f"{URL}/archive", params={"path": "/no/such"}) as response:
        assert (response.status, (await response.json())["code"]) == (404, "no-such-file")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../out"))
    for data, path, status, code in (
        (stream.getvalue(), f"{tmp_path}/in", 400, "bad-archive"),
        (b"nonsense" * 100, f"{tmp_path}/in", 400, "bad-archive"),
        (b"", "/etc/passwd", 422, "not-a-directory"),
    ):
        async with served.http.put(f"{URL}/archive", params={"path": path}, data=data) as response:
            assert (response.status, (await response.json())["code"]) == (status, code)
    assert not (tmp_path / "out").exists()


async def test_what_happens_to_files_is_told(served: Served, tmp_path: Path) -> None:
    query = {"path": str(tmp_path), "recursive": "true"}
    async with served.http.get(f"{URL}/watch", params=query) as response:
        assert json.loads(await response.content.readline()) == {"type": "ready"}
        (tmp_path / "new").mkdir()
        event = json.loads(await response.content.readline())
    assert event == {"type": "change", "path": f"{tmp_path}/new", "change": "created", "is_dir": True}
    async with served.http.get(f"{URL}/watch", params={"path": "/no/such"}) as response:
        assert (response.status, (await response.json())["code"]) == (404, "no-such-file")


async def test_a_watch_has_an_end_signs_of_life_and_a_form_for_browsers(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ALIVE_S", 0.01)
    query = {"path": str(tmp_path), "timeout_sec": "0.2"}
    async with served.http.get(f"{URL}/watch", params=query) as response:
        said = [json.loads(line)["type"] async for line in response.content]
    assert said[0], said[-1] == ("ready", "end")
    assert set(said[1:-1]) == {"alive"}
    async with served.http.get(f"{URL}/watch", params=query, headers={"Accept": "text/event-stream"}) as response:
        assert response.content_type == "text/event-stream"
        text = (await response.read()).decode()
    assert text.startswith('event: ready\ndata: {"type":"ready"}\n\n: alive\n\n')


async def test_a_guest_that_dies_ends_the_watch_with_an_error(served: Served, tmp_path: Path) -> None:
    made = await served.create("mortal")
    async with served.http.get("/sandboxes/mortal/files/watch", params={"path": str(tmp_path)}) as response:
        await response.content.readline()
        await served.engine.destroy(made.id)
        last = json.loads((await response.read()).splitlines()[-1])
    assert (last["type"], last["code"]) == ("error", "not-running")
