"""From a registry with a password, and from a file that another program wrote, to commands in virtual machines."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.guests import distroless_image, musl_image
from tests.daemons import Daemon, error_of
from tests.serving import short_directory
from tests.unit.bhatti.images.oci.conftest import HTPASSWD, PASSWORD, USER, Skopeo, needs, running_registry
from tests.unit.bhatti.images.oci.making import write_layout

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture
def host(images_dir: Path) -> Iterator[Daemon]:
    """A daemon whose directory of images is its own, with a kernel and an agent, and nobody else's images."""
    with short_directory() as directory:
        own = directory / "images"
        (own / "artefacts").mkdir(parents=True)
        for kind in ("kernel", "runtime", "initramfs", "agent"):
            subprocess.run(["cp", "-a", images_dir / "artefacts" / kind, own / "artefacts"], check=True)
        subprocess.run(["cp", "-a", images_dir / "guest.json", own], check=True)
        # Without golden snapshots: nothing else is under way when images are pruned.
        found = Daemon(directory, engine="qemu", BHATTI_IMAGES_DIR=str(own), BHATTI_QEMU_FORK="false")
        found.start()
        try:
            yield found
        finally:
            found.remove_all()
            found.stop()


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    directory = tmp_path / "skopeo"
    directory.mkdir()
    return Skopeo(needs("skopeo", "skopeo"), directory)


def test_images_of_others_become_sandboxes(host: Daemon, skopeo: Skopeo, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}\n"
    with running_registry(tmp_path, auth=auth) as registry:
        skopeo.push(musl_image(tmp_path), f"{registry}/team/musl:1", f"--dest-creds={USER}:{PASSWORD}")
        assert error_of(host.bhatti("image", "pull", f"{registry}/team/musl:1", "--json")) == (2, "registry-denied")
        login = ("--username", USER, "--password-stdin")
        pulled = host.out("image", "pull", f"{registry}/team/musl:1", *login, "--json", stdin=PASSWORD.encode())
    assert json.loads(pulled)["name"] == "musl-1"

    layout = write_layout(tmp_path / "layout", distroless_image(tmp_path), names=["x"])
    skopeo.copy(f"oci:{layout}:x", f"docker-archive:{tmp_path / 'saved.tar'}:tiny:1")
    host.out("image", "import", f"docker-archive:{tmp_path / 'saved.tar'}", "--name", "tiny")
    assert [image["name"] for image in json.loads(host.out("image", "ls", "--json"))] == ["musl-1", "tiny"]

    host.out("create", "one", "--image", "musl-1", "--memory", "256", "--env", "GREETING=of the sandbox")
    # The image's own variables: where its programs are, and one of theirs.
    assert host.out("exec", "one", "--", "hello", "greetings") == b"greetings lohar yes\n"
    assert host.out("exec", "one", "--", "sh", "-c", "echo $GREETING; . /etc/os-release; echo $ID") == (
        b"of the sandbox\nlike-alpine\n"
    )
    assert error_of(host.bhatti("image", "rm", "musl-1", "--json")) == (5, "image-in-use")

    host.out("create", "two", "--image", "tiny", "--memory", "256")
    done = host.bhatti("exec", "two", "--", "/app")
    assert (done.returncode, done.stdout) == (7, b"nothing else is here\n")
    assert b"not found" in host.bhatti("shell", "two").stderr + host.bhatti("exec", "two", "--", "sh").stderr
    host.out("rm", "two")
    host.out("image", "rm", "tiny")
    assert [image["name"] for image in json.loads(host.out("image", "ls", "--json"))] == ["musl-1"]

    def freed() -> int:
        return int(json.loads(host.out("image", "prune", "--json"))["freed_bytes"])

    assert freed() > 0
    # What sleeps needs the image that it was made of, whatever is called so now.
    host.out("stop", "one")
    host.out("image", "import", f"oci:{layout}", "--name", "musl-1")
    assert freed() == 0
    assert host.out("exec", "one", "--", "hello", "again").startswith(b"again ")
    assert json.loads(host.out("inspect", "one", "--json"))["how"] == "restored"
    host.out("rm", "one")
    assert freed() > 0
