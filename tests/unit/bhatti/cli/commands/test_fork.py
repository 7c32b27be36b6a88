import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti
from tests.unit.bhatti.engines.firecracker.test_version import program
from tests.unit.bhatti.engines.qemu.test_stored import FIRECRACKER, at_rest


@pytest.fixture
def name(bhatti: Bhatti) -> Iterator[str]:
    """A name that is free, for a sandbox that is gone afterwards."""
    yield "two"
    bhatti("rm", "-f", "two", "-q")


@pytest.fixture
def kept(bhatti: Bhatti) -> Iterator[str]:
    """A checkpoint of the sandbox `one`."""
    assert bhatti("checkpoint", "create", "one", "kept").out == "kept\t0 MiB\n"
    yield "kept"
    bhatti("checkpoint", "rm", "one", "kept")


def test_a_fork_is_told_like_any_new_sandbox(bhatti: Bhatti, name: str) -> None:
    done = bhatti("fork", "one", name, "-e", "A=b")
    assert done.code == 0, done.err
    assert done.out.rstrip("\n").split("\t")[1:] == [name, "127.0.0.1"]
    assert bhatti("inspect", name, "--json").json()["how"] == "forked"


def test_a_fork_goes_on_from_a_checkpoint(bhatti: Bhatti, name: str, kept: str) -> None:
    shown = bhatti("fork", "one", name, "--checkpoint", kept, "--json").json()
    assert (shown["name"], shown["how"]) == (name, "forked")


def test_create_can_fork_too(bhatti: Bhatti, name: str) -> None:
    assert bhatti("create", name, "--from", "one", "--json").json()["how"] == "forked"


def test_checkpoints_are_listed_and_gone_back_to(bhatti: Bhatti, kept: str) -> None:
    heading, row = bhatti("checkpoint", "ls", "one").out.splitlines()
    assert heading.split() == ["NAME", "AGE", "SIZE", "STATE"]
    assert (row.split()[0], row.split()[-1]) == (kept, "ok")
    assert [found["name"] for found in bhatti("checkpoint", "ls", "one", "--json").json()] == [kept]
    assert bhatti("checkpoint", "restore", "one", kept).out == "restored\n"
    assert bhatti("checkpoint", "restore", "one", kept, "--json").json()["name"] == "one"
    assert bhatti("checkpoint", "rm", "one", kept, "--json").json() == {"status": "deleted"}
    assert bhatti("checkpoint", "create", "one", kept, "--json").json()["usable"]
    assert bhatti("checkpoint", "rm", "one", kept).code == 0
    assert bhatti("checkpoint", "create", "one", kept, "--quiet").out == f"{kept}\n"


def test_a_snapshot_is_verified_of_what_is_stopped(bhatti: Bhatti) -> None:
    assert bhatti("snapshot", "verify", "one", "--json").code == 5
    bhatti("stop", "one")
    assert bhatti("snapshot", "verify", "one", "--probe").out == "ok: it is where it was (loaded for a try)\n"
    assert bhatti("snapshot", "verify", "one", "--json").json()["probed"] is False
    bhatti("start", "one")


def test_snapshots_at_rest_are_listed_without_a_daemon(
    bhatti: Bhatti, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BHATTI_STATE_DIR", str(tmp_path))
    assert bhatti("snapshot", "ls", "--json").json() == []
    at_rest(tmp_path / "sandboxes", "anna", FIRECRACKER)
    done = bhatti("snapshot", "ls")
    heading, row = done.out.splitlines()
    assert (done.code, heading.split()[:2]) == (0, ["SANDBOX", "CHECKPOINT"])
    assert row.split()[:4] == ["anna", "-", "firecracker", "1.16.1"]
    assert bhatti("snapshot", "ls", "-q").out == "anna\n"
    newer = program(tmp_path, "Firecracker v1.17.0")
    monkeypatch.chdir(tmp_path)
    done = bhatti("snapshot", "ls", "--stranded", "--firecracker", f"./{newer.name}")
    assert done.code == 65
    assert "taken with version 1.16.1, here it is 1.17.0" in done.out
    same = program(tmp_path, "Firecracker v1.16.1")
    assert bhatti("snapshot", "ls", "--stranded", "--firecracker", str(same), "--json").json() == []
    assert bhatti("snapshot", "ls", "--firecracker", str(same)).code == 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("fork", "none", "two"), 4, "sandbox-not-found"),
        (("fork", "one", "one"), 5, "name-taken"),
        (("fork", "one", "two", "--checkpoint", "none"), 4, "checkpoint-not-found"),
        (("fork", "one", "two", "--file", "/no/such:/x"), 2, "bad-file"),
        (("create", "two", "--from", "one", "--image", "other"), 2, "shape-differs"),
        (("checkpoint", "create", "one", "../x"), 2, "bad-name"),
        (("checkpoint", "restore", "one", "none"), 4, "checkpoint-not-found"),
        (("checkpoint", "rm", "one", "none"), 4, "checkpoint-not-found"),
        (("snapshot", "verify", "none"), 4, "sandbox-not-found"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_code(
    bhatti: Bhatti, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    done = bhatti(*arguments, "--json")
    assert done.code == exit_code
    assert json.loads(done.err)["code"] == code
