from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bhatti.cli.outfits import injection, outfit, outfit_options, wanted_secrets
from bhatti.errors import InvalidRequest
from bhatti.operations import types


def parsed(*arguments: str) -> types.SandboxCreate:
    """What a command with the options makes of arguments."""
    found: list[types.SandboxCreate] = []

    @click.command()
    @outfit_options
    def command(**given: object) -> None:
        found.append(types.SandboxCreate(**outfit(given)))

    done = CliRunner().invoke(command, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return found[0]


def test_nothing_said_is_nothing_asked_for() -> None:
    assert parsed() == types.SandboxCreate()


def test_each_option_is_a_field() -> None:
    told = parsed(
        *("--image", "base", "--cpus", "2", "--memory", "512", "--disk", "1024", "-e", "A=b", "-v", "data:/data:ro"),
        *("--secret", "TOKEN", "--init", "date", "--user", "root", "--label", "team=red", "--keep-hot"),
        *("--warm-after", "never", "--cold-after", "60"),
    )
    assert told == types.SandboxCreate(
        image="base",
        cpus=2,
        memory_mb=512,
        disk_size_mb=1024,
        env={"A": "b"},
        volumes=[types.VolumeMount(name="data", target="/data", read_only=True)],
        secrets=["TOKEN"],
        init="date",
        user="root",
        labels={"team": "red"},
        keep_hot=True,
        warm_after_s=0.0,
        cold_after_s=60.0,
    )


def test_a_secret_is_a_variable_or_a_file() -> None:
    assert wanted_secrets(("TOKEN", "db:DB_URL", "key:/home/lohar/.ssh/id")) == [
        "TOKEN",
        types.SecretWanted(name="db", env="DB_URL"),
        types.SecretWanted(name="key", file="/home/lohar/.ssh/id"),
    ]
    assert wanted_secrets(()) is None


@pytest.mark.parametrize("given", ["", ":A", "a:"])
def test_what_is_no_secret_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wanted_secrets((given,))
    assert caught.value.code == "bad-secret"


def test_a_file_goes_in_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\x00content")
    file.chmod(0o640)
    assert injection(f"{file}:/etc/key") == types.FileInjection(
        guest_path="/etc/key", content=b"\x00content", mode="0640"
    )
    for wrong in (str(file), f"{file}:etc/key", f"{tmp_path}/none:/etc/key"):
        with pytest.raises(InvalidRequest):
            injection(wrong)


@pytest.mark.parametrize("given", ["data", "data:", "data:data", "data:/data:rx"])
def test_what_is_no_volume_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed("-v", given)
    assert caught.value.code == "bad-volume"
