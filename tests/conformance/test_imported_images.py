"""Any root file system is a sandbox: the agent brings its own Python, its own C library and its own user."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.conftest import Create
from tests.conformance.guests import distroless_image, musl_image
from tests.unit.bhatti.images.oci.making import write_layout

from bhatti.engines.base import Engine
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.docker.images import LABEL_DIGEST
from bhatti.errors import GuestFailure
from bhatti.images.artefacts import silent
from bhatti.images.oci.sources import open_source
from bhatti.images.store import ImageStore

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(300), pytest.mark.usefixtures("pair")]


@pytest.fixture(scope="module")
def imported(images_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Names of the two images, in the directory that the engine looks into; both are gone afterwards."""
    work = tmp_path_factory.mktemp("images")
    store = ImageStore(images_dir)
    names = "conformance-musl", "conformance-distroless"
    for name, made in zip(names, (musl_image(work), distroless_image(work)), strict=True):
        store.import_image(open_source(f"oci:{write_layout(work / name, made)}"), name)
    yield names
    keys = {record.root_key for record in store._records() if record.name in names}
    for name in names:
        store.remove(name)
    with store._artefacts.locked(silent):
        for artefact in store._artefacts.all():
            if artefact.key in keys:
                store._artefacts.remove(artefact)


@pytest.fixture
def musl(imported: tuple[str, str]) -> str:
    return imported[0]


@pytest.fixture
def distroless(imported: tuple[str, str]) -> str:
    return imported[1]


async def test_an_image_with_another_c_library_is_a_sandbox_like_any(create: Create, musl: str) -> None:
    box = await create("musl", image=musl, env={"PATH": "/opt:/sbin:/bin", "FROM_IMAGE": "yes"})
    result = await box.link.exec(["sh", "-c", "cat /etc/os-release; whoami; pwd; through-a-link; ls /etc/removed"])
    assert result.stdout.decode().splitlines()[:1] == ["ID=like-alpine"]
    assert result.stdout.decode().splitlines()[2:] == ["lohar", "/home/lohar", "linked"]
    assert b"No such file" in result.stderr
    result = await box.link.exec(["hello", "greetings"])
    assert (result.stdout, result.stderr, result.exit_code) == (b"greetings lohar yes\n", b"", 0)
    result = await box.link.exec(["sh", "-c", "stat -c '%u %g %a' /etc/shadow /tmp"])
    assert result.stdout == b"0 42 640\n0 0 1777\n"
    result = await box.link.exec(["id"], user="root")
    assert result.stdout.startswith(b"uid=0(root) gid=0(root)")
    await box.link.write_file("/home/lohar/file", b"content")
    assert await box.link.read_file("/home/lohar/file") == b"content"
    async with box.link.shell(["sh"], rows=24, cols=80) as terminal:
        await terminal.write(b"echo $((6 * 7)); exit 3\n")
        seen = b""
        while (data := await terminal.read()) is not None:
            seen += data
        assert b"\n42" in seen.replace(b"\r", b"")
        assert terminal.exit_code == 3


async def test_an_image_of_one_program_is_a_sandbox_too(create: Create, distroless: str) -> None:
    box = await create("distroless", image=distroless)
    result = await box.link.exec(["/app"])
    assert (result.stdout, result.exit_code) == (b"nothing else is here\n", 7)
    with pytest.raises(GuestFailure, match=r"sh.*not found"):
        await box.link.exec(["sh", "-c", "true"])
    await box.link.write_file("/tmp/file", b"content")
    assert await box.link.read_file("/tmp/file") == b"content"
    names = {entry.name for entry in await box.link.list_dir("/")}
    assert {"app", "etc", "home", "proc", "dev", "tmp"} <= names
    assert b"\nlohar:x:1000:1000:" in await box.link.read_file("/etc/passwd")


async def test_the_image_itself_is_not_changed_by_its_sandboxes(create: Create, musl: str) -> None:
    first = await create("first", image=musl)
    await first.link.exec(["sh", "-c", "rm -r /bin /lib; echo changed > /etc/os-release"], user="root")
    await first.link.write_file("/etc/new", b"x")
    second = await create("second", image=musl)
    result = await second.link.exec(["sh", "-c", "cat /etc/os-release; ls /etc/new"])
    assert result.stdout.startswith(b"ID=like-alpine")
    # The agent of the first has lost nothing with the programs that are gone.
    assert await first.link.read_file("/etc/os-release") == b"changed\n"


async def test_an_image_that_somebody_removed_from_docker_is_put_there_again(
    engine: Engine, create: Create, distroless: str
) -> None:
    if not engine.images_elsewhere:
        pytest.skip("the engine has no images but those of the store")
    assert isinstance(engine, DockerEngine)
    first = await create("first", image=distroless)
    await engine.destroy(first.spec.id)
    found = await engine.host.images.find(distroless)
    await engine.host.api.remove_image(found.id)  # as `docker system prune --all` would
    again = await create("again", image=distroless)
    assert (await again.link.exec(["/app"])).exit_code == 7
    digest = found.boot.digests["base"]
    assert found.id not in [image.id for image in await engine.host.api.images(f"{LABEL_DIGEST}={digest}")]
