"""Every help has an example, and every example does what it says."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from tests.commands import every_command, examples
from tests.daemons import Daemon
from tests.serving import short_directory
from tests.terminals import screen
from tests.unit.bhatti.images.oci.making import archive, file, sha256

from bhatti import paths
from bhatti.images.store import ImageStore
from bhatti.operations import table

pytestmark = pytest.mark.timeout(300)

BEFORE: dict[str, list[str]] = {
    "rm": ["create agent-2"],
    "start": ["stop agent-1"],
    "unpublish": ["publish agent-1 8000"],
    "resume": ["pause agent-1"],
    "checkpoint restore": ["checkpoint create agent-1 before-upgrade"],
    "checkpoint rm": ["checkpoint create agent-1 before-upgrade"],
    "snapshot": ["stop agent-1"],
    "snapshot verify": ["stop agent-1"],
    "volume inspect": ["volume create data --size 10G"],
    "volume rm": ["volume create data --size 10G"],
    "volume resize": ["volume create data --size 10G"],
    "volume clone": ["volume create data --size 10G"],
    "task inspect": ["image build --detach"],
    "user inspect": ["user create anna"],
    "user update": ["user create anna"],
    "user rotate": ["user create anna"],
    "user rm": ["user create anna"],
    "create": ["secret set GITHUB_TOKEN --from-file data.csv"],
    "secret inspect": ["secret set GITHUB_TOKEN --from-file data.csv"],
    "secret rm": ["secret set GITHUB_TOKEN --from-file data.csv"],
    "template inspect": ["template create agent"],
    "template rm": ["template create agent"],
}
"""What has been done before, beside `create agent-1`."""

WITHOUT_A_SANDBOX = ("create", "image")
"""Commands that make `agent-1` themselves, or what it would be in the way of."""

EXIT_CODES = {"exec": 3}
"""Examples that show what is not 0."""

FILES = (
    "data.csv",
    ".ssh/deploy",
    "src/main.py",
    "workspace/draft.txt",
    "workspace/results/all.txt",
    "workspace/cache/part",
)
"""What there is where the examples are run; `workspace` is the sandbox's."""

BY_HAND = {"events", "forward", "mcp", "shell", "serve", "setup", "image pull", "task cancel"}
"""Examples that need more than a shell: see the tests below."""

ALL = every_command()
RUN = [
    pytest.param(name, line, id=f"{name}-{number}")
    for name, command in ALL.items()
    if name not in BY_HAND
    for number, line in enumerate(examples(command))
]


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    with short_directory() as directory:
        found = Daemon(directory, BHATTI_LISTEN="127.0.0.1:0", BHATTI_GATEWAY_LISTEN="127.0.0.1:0")
        programs = directory / "bin"
        programs.mkdir()
        (programs / "bhatti").write_text(f'#!/bin/sh\nexec {sys.executable} -m bhatti "$@"\n')
        (programs / "bhatti").chmod(0o755)
        found.env["PATH"] = f"{programs}:{found.env['PATH']}"
        found.env["TOKEN"] = "ghp_example"
        found.start()
        try:
            yield found
        finally:
            clear(found)
            found.stop()


@pytest.fixture
def images(served: Daemon) -> None:
    """Images of this machine's own, to be removed at will: other names for the same files."""
    store = Path(paths.images_dir())
    ImageStore(store).build()
    own = served.directory / "images"
    shutil.rmtree(own, ignore_errors=True)
    if subprocess.run(["cp", "-al", f"{store}/.", str(own)], capture_output=True, check=False).returncode != 0:
        subprocess.run(["cp", "-a", "--sparse=always", f"{store}/.", str(own)], check=True)


def clear(served: Daemon) -> None:
    """Remove all there is but images."""
    with served.client() as client:
        for sandbox in client.call(table.SANDBOX_LIST):
            client.call(table.SANDBOX_DESTROY, id=sandbox.id)
        for volume in client.call(table.VOLUME_LIST):
            client.call(table.VOLUME_REMOVE, name=volume.name)
        for secret in client.call(table.SECRET_LIST):
            client.call(table.SECRET_REMOVE, name=secret.name)
        for template in client.call(table.TEMPLATE_LIST):
            client.call(table.TEMPLATE_REMOVE, template=template.name)
        for user in client.call(table.USER_LIST):
            client.call(table.USER_REMOVE, user=user.id)


@pytest.fixture
def prepared(served: Daemon, request: pytest.FixtureRequest) -> Daemon:
    """The state in which the example of a command makes sense."""
    name = request.node.callspec.params["name"] if hasattr(request.node, "callspec") else ""
    clear(served)
    if name.startswith(("image", "task")):
        request.getfixturevalue("images")
    if not name.startswith(WITHOUT_A_SANDBOX):
        served.out("create", "agent-1")
    for path in FILES:
        (served.directory / path).parent.mkdir(exist_ok=True)
        (served.directory / path).write_text("a,b\n1,2\n")
    for line in BEFORE.get(name, []):
        served.out(*line.split())
    (served.directory / "app.tar").write_bytes(application())
    return served


def application() -> bytes:
    """An image as `docker save` writes it."""
    layer = archive([file("hello.txt", b"hello\n")])
    root = {"type": "layers", "diff_ids": [sha256(layer)]}
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": root}
    manifest = [{"Config": "config.json", "RepoTags": ["app:latest"], "Layers": ["layer.tar"]}]
    parts = (("config.json", json.dumps(config)), ("manifest.json", json.dumps(manifest)))
    return archive([file("layer.tar", layer), *(file(name, text.encode()) for name, text in parts)])


@pytest.mark.parametrize("name", list(ALL))
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    found = examples(ALL[name])
    assert found, f"the help of `bhatti {name}` has no `Example:`"
    for line in found:
        assert re.search(rf"\bbhatti {name}\b", line), line


@pytest.mark.parametrize(("name", "line"), RUN)
def test_the_example_works(prepared: Daemon, name: str, line: str) -> None:
    # What is a path of the sandbox there is one of this machine here, where sandboxes are processes.
    line = line.replace("/workspace", f"{prepared.directory}/workspace")
    line = line.replace("/var/backups", str(prepared.directory)).replace("--timeout 60", "--timeout 1")
    command = ["bash", "-o", "pipefail", "-c", line]
    done = subprocess.run(
        command, cwd=prepared.directory, env=prepared.env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == EXIT_CODES.get(name, 0), done.stderr
    assert "Traceback" not in done.stderr


def words(name: str) -> list[str]:
    (line,) = examples(ALL[name])
    assert line.startswith("bhatti ")
    return line.split()[1:]


def test_the_example_of_events_goes_on_until_it_is_interrupted(prepared: Daemon) -> None:
    with prepared.popen(*words("events"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"agent-1" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130, -signal.SIGINT)


def test_the_example_of_forward_listens_until_it_is_interrupted(prepared: Daemon) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as one, closing(socket.create_server(("127.0.0.1", 0))) as two:
        ports = [str(free.getsockname()[1]) for free in (one, two)]
    given = [word.replace("8080:", f"{ports[0]}:").replace("5432", f"{ports[1]}:5432") for word in words("forward")]
    with prepared.popen(*given, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().split()[-1] for _ in ports] == [b"agent-1:80", b"agent-1:5432"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def test_the_example_of_mcp_serves_until_it_is_interrupted(prepared: Daemon) -> None:
    given = [word.replace("8808", "0") for word in words("mcp")]  # that port may be somebody else's
    with prepared.popen(*given, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def test_the_example_of_shell_is_a_program_on_the_whole_screen(prepared: Daemon) -> None:
    command = (sys.executable, "-m", "bhatti", *words("shell"))
    with screen(*command, env=prepared.env | {"TERM": "xterm"}, cwd=str(prepared.directory)) as (person, process):
        person.wait_for(b"load average")
        person.type(b"q")
        person.wait_for(b"\x1b")
        assert process.wait(60) == 0


def test_the_example_of_setup_remembers_the_daemon(prepared: Daemon) -> None:
    line = next(line for line in prepared.log.splitlines() if "lifetime: listening on http://" in line)
    given = [re.sub(r"http://box\S*", line.split("listening on ")[1].split()[0], word) for word in words("setup")]
    key = prepared.out("user", "create", "anna").decode().strip()
    done = prepared.bhatti(*given, env={"BHATTI_API_KEY": key})
    written = prepared.directory / ".config" / "bhatti" / "client.toml"
    assert done.returncode == 0, done.stderr
    assert key in written.read_text()
    written.unlink()


def test_the_example_of_serve_serves() -> None:
    with short_directory() as directory:
        other = Daemon(directory)
        with other.popen(*words("serve"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            assert any(b'"ready' in line for line in process.stdout)
            process.send_signal(signal.SIGTERM)
            for line in process.stdout:
                json.loads(line)
            assert process.wait(60) == 0


def test_the_example_of_pull_is_understood() -> None:
    """It needs a registry of the internet; `tests/server/test_imported.py` pulls from one of its own."""
    group = ALL["image"]
    assert isinstance(group, click.Group)
    context = group.commands["pull"].make_context("pull", words("image pull")[2:])
    assert context.params["reference"] == words("image pull")[-1]


def test_the_example_of_cancel_is_understood(prepared: Daemon) -> None:
    """What could be cancelled takes minutes; `tests/unit` cancels work that waits for it."""
    done = prepared.bhatti(*words("task cancel"))
    assert (done.returncode, b"there is no task" in done.stderr) == (4, True)
