import click
import pytest
from click.testing import CliRunner

from bhatti.cli.sizes import mib, size


@pytest.mark.parametrize(
    ("text", "found"),
    [("1", 1), ("0", 0), ("512M", 512), ("1G", 1024), ("10g", 10_240), (" 2GiB", 2048), ("2gb", 2048), ("1T", 1 << 20)],
)
def test_a_number_is_mib_unless_it_has_a_unit(text: str, found: int) -> None:
    assert mib(text) == found


@pytest.mark.parametrize("text", ["", "G", "1.5G", "-1", "1K", "1 G", "٣", "1" * 13])
def test_what_is_no_size_is_none(text: str) -> None:
    assert mib(text) is None


def test_an_option_takes_sizes() -> None:
    @click.command()
    @click.option("--memory", type=size, default=512)
    def command(memory: int) -> None:
        click.echo(memory)

    runner = CliRunner()
    assert [runner.invoke(command, line).output for line in ([], ["--memory", "2G"])] == ["512\n", "2048\n"]
    refused = runner.invoke(command, ["--memory", "much"])
    assert refused.exit_code == 2
    assert "'much' is not a size: for example 512M, or 2G" in refused.output
