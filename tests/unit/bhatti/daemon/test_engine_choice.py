from pathlib import Path

import pytest

from bhatti.daemon import engine_choice
from bhatti.daemon.settings import Settings, load
from bhatti.engines.base import Finding
from bhatti.errors import Conflict

GOOD = [Finding(name="firecracker", level="ok", detail="1.16.1"), Finding(name="kvm", level="ok", detail="ran")]
BAD = [GOOD[0], Finding(name="kvm", level="failed", detail="the guest failed")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load([f"state_dir={tmp_path}"], env={}, files=[])


def test_the_best_is_chosen_where_nothing_is_wrong_with_it(settings: Settings) -> None:
    assert engine_choice.choose(settings, GOOD).engine == "firecracker"


def test_the_other_is_chosen_with_what_is_wrong(settings: Settings) -> None:
    choice = engine_choice.choose(settings, BAD)
    assert (choice.engine, choice.reason) == ("qemu", "no firecracker: the guest failed")


def test_sandboxes_keep_their_engine_whatever_is_installed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sandboxes" / "s1").mkdir(parents=True)
    assert engine_choice.choose(settings, GOOD).engine == "qemu"
    engine_choice.record(settings, "firecracker")
    choice = engine_choice.choose(settings, BAD)
    assert choice.engine == "firecracker"
    assert str(tmp_path) in choice.reason
    (tmp_path / "sandboxes" / "s1").rmdir()
    assert engine_choice.choose(settings, BAD).engine == "qemu"


def test_an_engine_is_refused_where_the_sandboxes_are_those_of_another(settings: Settings, tmp_path: Path) -> None:
    engine_choice.record(settings, "firecracker")
    engine_choice.check(settings, "qemu")
    (tmp_path / "sandboxes" / "s1").mkdir(parents=True)
    engine_choice.check(settings, "firecracker")
    with pytest.raises(Conflict, match="those of the engine firecracker, and engine qemu was chosen") as refusal:
        engine_choice.check(settings, "qemu")
    assert refusal.value.code == "other-engine"
    assert "set engine = firecracker" in str(refusal.value.hint)


def test_sandboxes_from_before_there_was_a_choice_are_anybodys(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sandboxes" / "s1").mkdir(parents=True)
    for engine in ("qemu", "docker"):
        engine_choice.check(settings, engine)
