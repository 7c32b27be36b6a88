from pathlib import Path

import pytest

from bhatti.daemon.settings import FIELDS, Settings, config_files, load, variable_of
from bhatti.errors import InvalidRequest


def settings(*flags: str, env: dict[str, str] | None = None, files: list[Path] | None = None) -> Settings:
    return load(flags, env={"HOME": "/root", **(env or {})}, files=files or [])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_without_anything_there_are_defaults() -> None:
    found = settings()
    assert (found.engine, found.defaults.memory_mb, found.stop_all) == ("qemu", 512, False)


def test_a_file_gives_way_to_a_later_file_to_the_environment_and_to_flags(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("log_level = 'debug'\nlog_format = 'json'\n[defaults]\ncpus = 2\nmemory_mb = 1024\n")
    second.write_text("log_level = 'error'\n[defaults]\ncpus = 3\n")
    found = settings(
        "defaults.cpus=5", env={"BHATTI_DEFAULTS_CPUS": "4", "BHATTI_LOG_LEVEL": "info"}, files=[first, second]
    )
    assert found.log_format == "json"
    assert found.defaults.memory_mb == 1024
    assert found.log_level == "info"
    assert found.defaults.cpus == 5


def test_texts_become_what_the_setting_is() -> None:
    found = settings("stop_all=true", "drain_s=1.5", "qemu.dns=1.1.1.1, 9.9.9.9,")
    assert (found.stop_all, found.drain_s, found.qemu.dns) == (True, 1.5, ["1.1.1.1", "9.9.9.9"])


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert settings(files=[tmp_path / "absent.toml", Path("/etc/passwd/config.toml")]) == settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense = 1", "there is no setting 'nonsense'"),
        ("[defaults]\ncpu = 1", "there is no setting 'defaults.cpu'"),
        ("[defaults]\ncpus = 0", "defaults.cpus: Expected `int` >= 1"),
        ("log_format = 'xml'", "log_format: Invalid enum value 'xml'"),
        ("state_dir = '/x'", "state_dir cannot be set in a file"),
        ("what is this", "="),
        ("qemu = 5", "there is no setting 'qemu'"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_the_file(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        settings(files=[file])
    assert caught.value.code == "bad-setting"
    assert str(file) in caught.value.message
    assert complaint in caught.value.message


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="directory"):
        settings(files=[tmp_path])


def test_a_misspelt_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest) as caught:
        settings("log_fromat=json")
    assert caught.value.hint == "did you mean 'log_format'?"


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(InvalidRequest, match="BHATTI_DRAIN_S"):
        settings(env={"BHATTI_DRAIN_S": "soon"})


def test_a_flag_is_key_and_value() -> None:
    with pytest.raises(InvalidRequest, match="key=value"):
        settings("stop_all")


def test_a_state_directory_of_its_own_brings_the_others_with_it() -> None:
    found = settings("state_dir=/srv/b")
    assert (found.runtime_dir, found.images_dir) == ("/srv/b/run", "/srv/b/images")
    assert (str(found.socket), str(found.database)) == ("/srv/b/run/bhatti.sock", "/srv/b/state.db")
    assert str(found.lock) == "/srv/b/daemon.lock"


def test_directories_can_be_set_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings("state_dir=s", "runtime_dir=/run/b", env={"BHATTI_IMAGES_DIR": "/srv/images"})
    assert (found.state_dir, found.runtime_dir, found.images_dir) == (f"{tmp_path}/s", "/run/b", "/srv/images")


def test_the_files_are_those_of_the_system_and_of_the_user() -> None:
    assert [str(path) for path in config_files({"HOME": "/home/ada"})] == [
        "/etc/bhatti/config.toml",
        "/home/ada/.config/bhatti/config.toml",
    ]
    assert str(config_files({"XDG_CONFIG_HOME": "/c"})[1]) == "/c/bhatti/config.toml"


def test_no_two_settings_share_a_variable() -> None:
    assert len({variable_of(key) for key in FIELDS}) == len(FIELDS)
