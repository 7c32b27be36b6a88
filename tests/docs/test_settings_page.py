"""docs/settings.md is what the settings are: what it says of each is what a daemon makes of it."""

import re
from pathlib import Path

import pytest
from tests.daemons import ROOT

from bhatti.daemon.settings import DIRECTORIES, FIELDS, load, variable_of
from bhatti.errors import InvalidRequest

PAGE = (ROOT / "docs" / "settings.md").read_text()
ROWS = {
    name: (values, default)
    for name, values, default in re.findall(r"^\| `([a-z_.]+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
}
NAMES = sorted(set(FIELDS) - DIRECTORIES - {"images_dir"})


def value(name: str, *flags: str, files: tuple[Path, ...] = (), env: dict[str, str] | None = None) -> object:
    """What a setting is in the end."""
    found: object = load(flags, env=env or {}, files=files)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def test_every_setting_is_there() -> None:
    assert set(ROWS) == set(FIELDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_default_that_is_set_changes_nothing(name: str) -> None:
    told = ROWS[name][1].strip("`")
    text = "" if told == "-" else told
    assert value(name, f"{name}={text}") == value(name) == value(name, env={variable_of(name): text})


@pytest.mark.parametrize("name", NAMES)
def test_what_a_setting_may_be_is_what_it_says(name: str) -> None:
    values = ROWS[name][0]
    if choices := re.findall(r"`([^`]+)`", values):
        for choice in choices:
            assert str(value(name, f"{name}={choice}")).lower() == choice
        wrong = "nonsense"
    elif "number" in values:
        found = re.search(r"(?:from|above|number,) (\d+)", values)
        assert found is not None
        wrong = found[1] if "above" in values else str(int(found[1]) - 1)
    else:
        assert values in ("text", "a list of texts")
        return
    with pytest.raises(InvalidRequest):
        load([f"{name}={wrong}"], env={}, files=[])


def test_the_example_is_a_file_of_settings(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "config.toml").write_text(example[1])
    files = (tmp_path / "config.toml",)
    assert (value("engine", files=files), value("defaults.memory_mb", files=files)) == ("auto", 1024)
    assert value("defaults.memory_mb", "defaults.memory_mb=2048", files=files) == 2048
    assert value("defaults.memory_mb", env={"BHATTI_DEFAULTS_MEMORY_MB": "300"}, files=files) == 300
