import datetime
import io
import json
from pathlib import Path

import click
import pytest
from tests.daemons import LOCAL, ROOT
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli import offline
from bhatti.cli.commands import image as module
from bhatti.errors import NotFound, Unavailable
from bhatti.operations import types

BASE = types.Image(
    name="base",
    digest="sha256:0123456789abcdef",
    size_bytes=1 << 30,
    stored_bytes=300 << 20,
    created_at=datetime.datetime.now(datetime.UTC),
    kernel="6.1.0",
    source="Debian bookworm",
)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that is done at once; building for real is for the tests of images."""
    events = [
        types.BuildEvent(type="progress", stage="kernel", done=1, total=2),
        types.BuildEvent(type="image", image=BASE),
    ]
    monkeypatch.setattr(module, "_build_events", lambda request: iter(events))


@pytest.mark.usefixtures("built")
def test_a_build_tells_its_steps_and_its_result(bhatti: Bhatti) -> None:
    done = bhatti("image", "build")
    assert done.err == "image build: kernel\n"
    shown = dict(line.split(None, 1) for line in done.out.splitlines())
    assert (shown["image"], shown["kernel"], shown["size"]) == ("base", "6.1.0", "300 MiB")
    assert bhatti("image", "build", "-q").out == "sha256:0123456789abcdef\n"
    assert bhatti("image", "build", "--json").json()["source"] == "Debian bookworm"


def test_a_build_that_ends_without_an_image_is_an_error(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_build_events", lambda request: iter(()))
    assert bhatti("image", "build").code == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the builder is asked for; it is done at once."""
    requests: list[object] = []

    def events(request: object) -> object:
        requests.append(request)
        return iter([types.BuildEvent(type="image", image=BASE)])

    monkeypatch.setattr(module, "_build_events", events)
    return requests


def test_paths_are_made_absolute_and_all_else_is_passed_on(
    bhatti: Bhatti, asked: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bhatti("image", "import", "docker-archive:app.tar:app:1", "--name", "app", "-q").out == f"{BASE.digest}\n"
    bhatti("image", "import", "oci:/srv/layout")
    bhatti("image", "import", "nonsense")
    assert asked == [
        types.ImageImport(source=f"docker-archive:{tmp_path}/app.tar:app:1", name="app"),
        types.ImageImport(source="oci:/srv/layout"),
        types.ImageImport(source="nonsense"),
    ]


def test_a_pull_asks_for_the_password_where_nobody_sees_it(
    bhatti: Bhatti, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    bhatti("image", "pull", "alpine:3.19", "--insecure", "--name", "small")
    monkeypatch.setattr("sys.stdin", io.StringIO("sec ret\r\nmore"))
    bhatti("image", "pull", "private", "--username", "alice", "--password-stdin")
    monkeypatch.setattr(click, "prompt", lambda text, **how: f"{text} {how['hide_input']}")
    bhatti("image", "pull", "private", "--username", "alice")
    assert asked == [
        types.ImagePull(reference="alpine:3.19", name="small", insecure=True),
        types.ImagePull(reference="private", username="alice", password="sec ret"),
        types.ImagePull(reference="private", username="alice", password="Password of alice True"),
    ]
    done = bhatti("image", "pull", "private", "--password-stdin", "--json")
    assert (done.code, json.loads(done.err)["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("import", "nonsense"), "bad-source"), (("pull", "Not A Name"), "bad-reference")],
)
def test_what_names_nothing_is_told_with_and_without_a_daemon(
    bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    assert json.loads(bhatti("image", *arguments, "--json").err)["code"] == code
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BHATTI_ENGINE", LOCAL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert json.loads(bhatti("image", *arguments, "--json").err)["code"] == code


def test_images_are_asked_of_the_daemon(bhatti: Bhatti) -> None:
    assert bhatti("image", "ls", "--json").json() == []
    assert bhatti("image", "ls").out == "NAME  SOURCE  KERNEL  SIZE  AGE  DIGEST\n"
    done = bhatti("image", "build", "other", "--json")
    assert (done.code, json.loads(done.err)["code"]) == (2, "invalid-request")
    done = bhatti("image", "rm", "base", "--json")
    assert json.loads(done.err)["code"] == "image-in-use"
    assert json.loads(bhatti("image", "rm", "other", "--json").err)["code"] == "image-not-found"


def test_images_are_had_without_a_daemon_too(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BHATTI_ENGINE", LOCAL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert bhatti("image", "ls", "--json").json() == []
    assert json.loads(bhatti("image", "build", "other", "--json").err)["code"] == "invalid-request"
    assert json.loads(bhatti("image", "rm", "other", "--json").err)["code"] == "image-not-found"


class Answering:
    """A client of a daemon that has images."""

    def call(self, operation: object, request: object = None, **parameters: str) -> object:
        if parameters:
            return types.Outcome(status="deleted")
        return [BASE]


def test_a_list_of_images_is_a_table(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "client", Answering)
    assert bhatti("image", "ls").out.splitlines()[1].split()[:2] == ["base", "Debian"]
    assert bhatti("image", "ls", "-q").out == "base\n"
    assert bhatti("image", "rm", "base").out == "deleted\n"
    assert bhatti("image", "rm", "base", "-q").out == ""
    assert bhatti("image", "rm", "base", "--json").json() == {"status": "deleted"}


class Troubled:
    """A client of a daemon that is there, but starting."""

    def call(self, *arguments: object, **parameters: str) -> object:
        raise Unavailable("starting", code="starting")

    stream = call


@pytest.mark.parametrize("arguments", [("ls",), ("rm", "base"), ("build",)])
def test_a_daemon_in_trouble_is_not_passed_over(
    bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "client", Troubled)
    assert bhatti("image", *arguments).code == Unavailable.exit_code
    assert NotFound.exit_code != Unavailable.exit_code


def test_a_build_without_a_daemon_passes_its_events_on(bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def stream(self, *arguments: object) -> object:
            raise Unavailable("none", code="daemon-not-running")

    import msgspec

    monkeypatch.setattr(module, "client", Absent)
    lines = [msgspec.json.encode(types.BuildEvent(type="image", image=BASE))]
    monkeypatch.setattr(offline, "lines", lambda work, request: iter(lines))
    assert bhatti("image", "build", "-q").out == "sha256:0123456789abcdef\n"


def test_what_nobody_needs_is_freed(bhatti: Bhatti) -> None:
    assert bhatti("image", "prune").out == "0 MiB freed\n"
    assert bhatti("image", "prune", "--json").json() == {"freed_bytes": 0}
    assert bhatti("image", "prune", "-q").out == ""
