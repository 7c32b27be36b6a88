import datetime
import sys

import pytest

from bhatti.cli import output


def test_columns_are_as_wide_as_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATUS"), [("a", "running"), ("longer", "x")])
    assert capsys.readouterr().out == "NAME    STATUS\na       running\nlonger  x\n"


def test_an_empty_table_has_headings(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATUS"), [])
    assert capsys.readouterr().out == "NAME  STATUS\n"


def test_colour_is_for_terminals_of_people_who_want_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.table(("A", "B"), [("running", "x"), ("failed", "y")])
    painted = capsys.readouterr().out
    assert "\033[32mrunning\033[0m  x" in painted
    assert "\033[31mfailed \033[0m  y" in painted
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("A",), [("running",)])
    assert "\033" not in capsys.readouterr().out


def test_values_of_several_lines_stay_in_their_column(capsys: pytest.CaptureFixture[str]) -> None:
    output.pairs([("a", "1"), ("long", "2\n3"), ("b", "")])
    assert capsys.readouterr().out == "a     1\nlong  2\n      3\nb     \n"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_an_age_is_told_in_its_largest_units(seconds: int, expected: str) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert output.age(now - datetime.timedelta(seconds=seconds), now) == expected


def test_an_age_is_counted_to_the_present() -> None:
    assert output.age(datetime.datetime.now(datetime.UTC)) == "0 s"


@pytest.mark.parametrize(
    ("mib", "expected"), [(512, "512 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (1025, "1025 MiB"), (0, "0 MiB")]
)
def test_a_size_is_told_in_the_unit_that_reads_best(mib: int, expected: str) -> None:
    assert output.size(mib) == expected
