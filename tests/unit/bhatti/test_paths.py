from pathlib import Path

import pytest

from bhatti import paths


def test_root_has_the_directories_of_the_system() -> None:
    assert paths.state_dir({}, root=True) == "/var/lib/bhatti"
    assert paths.runtime_dir({}, root=True) == "/run/bhatti"
    assert paths.images_dir({}, root=True) == "/var/lib/bhatti/images"


def test_others_have_their_own() -> None:
    env = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/1000"}
    assert paths.state_dir(env, root=False) == "/home/ada/.local/state/bhatti"
    assert paths.runtime_dir(env, root=False) == "/run/user/1000/bhatti"


def test_xdg_state_home_is_respected() -> None:
    assert paths.state_dir({"XDG_STATE_HOME": "/data"}, root=False) == "/data/bhatti"


def test_without_a_runtime_directory_the_socket_is_in_the_state_directory_and_not_in_tmp() -> None:
    assert paths.runtime_dir({"HOME": "/home/ada"}, root=False) == "/home/ada/.local/state/bhatti/run"


def test_a_state_directory_of_its_own_brings_the_others_with_it() -> None:
    env = {"BHATTI_STATE_DIR": "/srv/b"}
    assert paths.runtime_dir(env, root=True) == "/srv/b/run"
    assert paths.images_dir(env, root=True) == "/srv/b/images"
    assert paths.socket_path(env) == "/srv/b/run/bhatti.sock"
    assert paths.log_path(env) == "/srv/b/daemon.log"


def test_each_directory_can_be_set_by_itself() -> None:
    env = {"BHATTI_STATE_DIR": "/srv/b", "BHATTI_RUNTIME_DIR": "/run/b", "BHATTI_IMAGES_DIR": "/srv/images"}
    assert paths.runtime_dir(env) == "/run/b"
    assert paths.images_dir(env) == "/srv/images"


def test_a_relative_directory_is_taken_from_where_we_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.state_dir({"BHATTI_STATE_DIR": "here"}) == f"{tmp_path}/here"


def test_who_is_root_is_asked_of_the_kernel() -> None:
    expected = "/var/lib/bhatti" if paths.is_root() else f"{Path.home()}/.local/state/bhatti"
    assert paths.state_dir({"HOME": str(Path.home())}) == expected
