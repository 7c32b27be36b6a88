from pathlib import Path

import pytest

from bhatti.net import instance


def test_an_instance_is_the_same_for_every_spelling_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    assert instance.instance_of(tmp_path / "link") == instance.instance_of(tmp_path / "x" / ".." / "state")


def test_two_directories_are_two_instances(tmp_path: Path) -> None:
    assert instance.instance_of(tmp_path / "a") != instance.instance_of(tmp_path / "b")


@pytest.mark.parametrize("name", [instance.bridge_name("0123abcd"), instance.tap_name("0123abcd", "sandbox" * 9)])
def test_interface_names_fit_the_kernel(name: str) -> None:
    assert len(name) < instance.IFNAMSIZ


def test_one_id_has_different_taps_in_two_instances() -> None:
    assert instance.tap_name("0123abcd", "s1") != instance.tap_name("abcd0123", "s1")


def test_an_alias_tells_its_sandbox_to_its_own_instance_only() -> None:
    alias = instance.alias("0123abcd", "s1")
    assert instance.sandbox_of(alias, "0123abcd") == "s1"
    assert instance.sandbox_of(alias, "abcd0123") is None
    assert instance.sandbox_of("", "0123abcd") is None
