import pytest

from bhatti.cli.trailing import split

VALUES = {"-e", "--env", "--cwd"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("one ls", ("", "one", "ls")),
        ("one ls -la --env x", ("", "one", "ls -la --env x")),
        ("one -- ls -la", ("", "one", "ls -la")),
        ("-e A=b one --cwd /x -- ls -e", ("-e A=b --cwd /x", "one", "ls -e")),
        ("--env=A=b one ls", ("--env=A=b", "one", "ls")),
        ("-d one sleep 5", ("-d", "one", "sleep 5")),
        ("-- one ls", ("", "one", "ls")),
        ("one -- -- x", ("", "one", "-- x")),
        ("one - x", ("", "one", "- x")),
        ("one", ("", "one", "")),
        ("--env", ("--env", "", "")),
        ("", ("", "", "")),
    ],
)
def test_options_end_where_the_command_begins(line: str, expected: tuple[str, str, str]) -> None:
    found = split(line.split(), 1, VALUES)
    assert tuple(" ".join(part) for part in found) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [("ls -la", ("", "", "ls -la")), ("--cwd /x -- ls", ("--cwd /x", "", "ls")), ("-- -x", ("", "", "-x"))],
)
def test_a_command_without_a_name_before_it_begins_at_once(line: str, expected: tuple[str, str, str]) -> None:
    assert tuple(" ".join(part) for part in split(line.split(), 0, VALUES)) == expected
