"""The API on a real Docker: what it does as with machines, what it cannot do, and what people do behind its back."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from tests.daemons import Daemon, daemon, error_of
from tests.dockerd import TINY, PrivateDocker

from bhatti import paths

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

HOG = "x=x; while :; do x=$x$x; done"
SMALL = ("--image", TINY, "--memory", "128")


@pytest.fixture(scope="module")
def contained(docker: PrivateDocker) -> Iterator[Daemon]:
    """A daemon whose sandboxes are containers, with one, called `one`; it leaves nothing in Docker."""
    asyncio.run(docker.import_tiny())
    before = things_in(docker)
    settings = {"BHATTI_DOCKER_SOCKET": str(docker.socket), "BHATTI_IMAGES_DIR": str(paths.images_dir())}
    with daemon(engine="docker", **settings) as found:
        found.out("create", "one", *SMALL, "--env", "GREETING=hello there")
        yield found
        found.bhatti("volume", "rm", "--force", "data")
    assert things_in(docker) == before


def things_in(docker: PrivateDocker) -> list[list[str]]:
    """Return the containers, networks and volumes that Docker has."""
    listings = (("ps", "--all", "--quiet"), ("network", "ls", "--quiet"), ("volume", "ls", "--quiet"))
    return [sorted(docker.docker(*words)) for words in listings]


def container_of(docker: PrivateDocker, name: str) -> str:
    """Return Docker's id of a sandbox."""
    (found,) = docker.docker("ps", "--all", "--quiet", "--filter", f"label=bhatti.name={name}")
    return found


def shown(contained: Daemon, name: str) -> dict[str, object]:
    return dict(json.loads(contained.out("inspect", name, "--json")))


def test_commands_and_files_are_as_with_machines(contained: Daemon) -> None:
    assert contained.out("exec", "one", "--", "sh", "-c", "id -un; echo $GREETING") == b"lohar\nhello there\n"
    done = contained.bhatti("exec", "one", "--", "sh", "-c", "cat; echo err >&2; exit 6", stdin=b"typed")
    assert (done.returncode, done.stdout, done.stderr) == (6, b"typed", b"err\n")
    contained.out("file", "write", "one", "/tmp/file", stdin=b"content")
    assert contained.out("file", "read", "one", "/tmp/file") == b"content"
    found = shown(contained, "one")
    assert (found["engine"], found["status"], found["thermal"]) == ("docker", "running", "hot")


def test_what_a_container_cannot_do_is_said_and_refused(contained: Daemon) -> None:
    can = json.loads(contained.out("version", "--json"))["daemon"]["can"]
    assert can["pause"]
    assert {can[what] for what in ("fork", "memory_snapshot", "disk_limit", "volume_limit", "volume_clone")} == {False}
    contained.out("volume", "create", "data", "--size", "16M")
    for arguments in (
        ["stop", "--memory", "one"],
        ["fork", "one", "two"],
        ["checkpoint", "create", "one", "now"],
        ["checkpoint", "ls", "one"],
        ["volume", "clone", "data", "copy"],
    ):
        assert error_of(contained.bhatti(*arguments, "--json")) == (2, "unsupported"), arguments
    assert contained.out("ls", "-q").count(b"\n") == 1
    assert contained.out("volume", "ls", "-q") == b"data\n"
    assert shown(contained, "one")["status"] == "running"
    contained.out("volume", "rm", "data")


def test_the_list_of_bad_input(contained: Daemon) -> None:
    for arguments, expected in (
        (["create", "one", *SMALL], (5, "name-taken")),
        (["create", "two", "--image", "No Such Image"], (4, "image-not-found")),
        (["create", "two", *SMALL, "--volume", "none:/data"], (4, "volume-not-found")),
        (["exec", "one", "--", "no-such-command"], (1, "command-not-found")),
    ):
        assert error_of(contained.bhatti(*arguments[:1], "--json", *arguments[1:])) == expected, arguments
    assert contained.out("ls", "-q").count(b"\n") == 1


def test_stopped_it_keeps_its_disk_and_any_command_starts_it(contained: Daemon) -> None:
    contained.out("exec", "one", "--", "sh", "-c", "echo on disk > /tmp/kept; sleep 1000 & echo $! > /tmp/pid")
    assert contained.out("stop", "one") == b"stopped\n"
    found = shown(contained, "one")
    assert (found["status"], found["thermal"]) == ("stopped", "cold")
    assert "memory not kept" in str(found["thermal_reason"])
    assert contained.out("exec", "one", "--", "cat", "/tmp/kept") == b"on disk\n"
    assert contained.bhatti("exec", "one", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)").returncode != 0
    found = shown(contained, "one")
    assert found["how"] == "disk-boot"
    assert "not its memory" in str(found["why"])


def test_paused_it_goes_on_where_it_was(contained: Daemon) -> None:
    contained.out("exec", "one", "--", "sh", "-c", "sleep 1000 & echo $! > /tmp/pid")
    contained.out("pause", "one")
    assert shown(contained, "one")["thermal"] == "warm"
    contained.out("exec", "one", "--", "sh", "-c", "kill $(cat /tmp/pid)")
    assert shown(contained, "one")["thermal"] == "hot"


def test_a_volume_outlives_sandboxes(contained: Daemon) -> None:
    contained.out("volume", "create", "data", "--size", "16M")
    contained.out("create", "two", *SMALL, "--volume", "data:/data")
    contained.out("exec", "two", "--", "sh", "-c", "echo kept > /data/file")
    assert error_of(contained.bhatti("volume", "rm", "data", "--json")) == (5, "volume-in-use")
    contained.out("rm", "two")
    contained.out("create", "three", *SMALL, "--volume", "data:/data:ro")
    assert contained.out("exec", "three", "--", "cat", "/data/file") == b"kept\n"
    assert contained.bhatti("exec", "three", "--", "touch", "/data/new").returncode == 1
    contained.out("rm", "three")
    contained.out("volume", "rm", "data")


def test_a_command_that_takes_too_much_memory_ends_alone_and_says_so(contained: Daemon) -> None:
    done = contained.bhatti("exec", "one", "--", "sh", "-c", HOG)
    assert done.returncode == 137
    assert b"memory" in done.stderr
    assert contained.out("exec", "one", "--", "echo", "alive") == b"alive\n"


def test_paused_by_hand_it_is_woken_by_a_command(contained: Daemon, docker: PrivateDocker) -> None:
    docker.docker("pause", container_of(docker, "one"))
    assert contained.out("exec", "one", "--", "echo", "awake") == b"awake\n"


def test_removed_by_hand_it_has_failed_and_says_why(contained: Daemon, docker: PrivateDocker) -> None:
    contained.out("create", "doomed", *SMALL)
    docker.docker("rm", "--force", container_of(docker, "doomed"))
    found = shown(contained, "doomed")
    assert found["status"] == "failed"
    assert "removed by hand" in str(found["cause"])
    assert error_of(contained.bhatti("exec", "--json", "doomed", "--", "true")) == (5, "not-running")
    assert error_of(contained.bhatti("start", "--json", "doomed")) == (73, "container-gone")
    contained.out("rm", "doomed")
    assert contained.out("ls", "-q").count(b"\n") == 1


def test_containers_outlive_the_daemon_and_are_found_again(contained: Daemon) -> None:
    contained.out("exec", "one", "--", "sh", "-c", "sleep 1000 & echo $! > /tmp/pid")
    contained.stop()
    contained.start()
    contained.out("exec", "one", "--", "sh", "-c", "kill $(cat /tmp/pid)")


def test_without_docker_the_daemon_does_not_start(contained: Daemon) -> None:
    """Nor does it for who may not use it; `docker-forbidden` is for who is not root."""
    done = contained.bhatti("doctor", "--json", env={"BHATTI_DOCKER_SOCKET": "/none", "BHATTI_RUNTIME_DIR": "/none"})
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["docker"]["status"] == "failed"
    assert "no such socket" in checks["docker"]["detail"]
