"""Directories to import into, real registries, and programs of others that make images."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.making import MadeImage, write_layout
from tests.unit.bhatti.images.oci.serving import Respond, Server, serving

from bhatti.images.store import ImageStore

USER, PASSWORD = "alice", "wonder:land"
HTPASSWD = "alice:$2y$05$mUAyclkXzC/m5.0GHs1u1uMPMHcON5kINNbyzDZrfMBtsJCqE3Tq6\n"
"""The password above; bcrypt is the only kind that the registry takes."""


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and proxies of whoever runs the tests."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: images have files of several users")


@pytest.fixture
def store(tmp_path: Path, as_root: None) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], Server]]:
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(serving(respond))


def needs(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path


@dataclass
class Skopeo:
    """Copies images, as somebody else's program."""

    program: str
    directory: Path

    def copy(self, source: str, target: str, *options: str) -> None:
        done = subprocess.run(
            [self.program, "copy", "--quiet", "--insecure-policy", *options, source, target],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "TMPDIR": str(self.directory)},
        )
        assert done.returncode == 0, done.stderr

    def push(self, image: MadeImage, reference: str, *options: str, layout: Path | None = None) -> None:
        where = layout or self.directory / f"layout-{image.manifest.digest[7:19]}"
        if not where.exists():
            write_layout(where, image, names=["pushed"])
        self.copy(f"oci:{where}:pushed", f"docker://{reference}", "--dest-tls-verify=false", *options)


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    directory = tmp_path / "skopeo"
    directory.mkdir()
    return Skopeo(needs("skopeo", "skopeo"), directory)


@contextmanager
def running_registry(directory: Path, http: str = "", auth: str = "") -> Iterator[str]:
    """Run Debian's docker-registry on a free port of this machine; yield `host:port`."""
    program = needs("docker-registry", "docker-registry")
    config = directory / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: info, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:0', secret: test{http}}}\n{auth}"
    )
    process = subprocess.Popen(
        [program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={"PATH": "/"}
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "listening on " in line:
                port = line.partition("listening on 127.0.0.1:")[2].partition(",")[0].partition('"')[0]
                break
        else:
            raise AssertionError("".join(said))
        drain.start()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        if drain.ident:
            drain.join()
        process.stderr.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that anybody may push to and pull from."""
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that asks for user and password."""
    directory = tmp_path_factory.mktemp("locked-registry")
    (directory / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {directory / 'htpasswd'}}}}}\n"
    with running_registry(directory, auth=auth) as host:
        yield host


@contextmanager
def mounted(store: ImageStore, name: str, at: Path) -> Iterator[Path]:
    """Yield the root file system of an image as the kernel sees it."""
    root = next(record for record in store._records() if record.name == name)
    image = store.directory / "artefacts/root" / root.root_key / "root.ext4"
    at.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)
