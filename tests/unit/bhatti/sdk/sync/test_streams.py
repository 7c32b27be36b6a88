from collections.abc import Iterator

import pytest

from bhatti import Sandbox


def test_both_directions_at_once_do_not_block_each_other(sb: Sandbox) -> None:
    size = 0
    for output in sb.stream("cat", stdin=(b"y" * (1 << 18) for _ in range(16))):
        size += len(output.data)
    assert size == 1 << 22


def test_a_conversation_has_two_sides(sb: Sandbox) -> None:
    with sb.stream("cat; exit 5", interactive=True) as cat:
        said = iter(cat)
        for word in ("one", "two"):
            cat.write(word)
            assert next(said).text == word
        cat.close_stdin()
        assert list(said) == []
    assert (cat.exit_code, cat.reason) == (5, "exited")


def test_a_killed_command_says_what_it_had_to_say(sb: Sandbox) -> None:
    with sb.stream("echo begun; exec sleep 600") as running:
        said = iter(running)
        assert next(said).text == "begun\n"
        running.kill()
        assert list(said) == []
    assert running.reason == "killed"


def test_a_supply_that_fails_ends_the_command_and_is_told(sb: Sandbox) -> None:
    def supply() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(sb.stream("cat; sleep 600", stdin=supply()))


def test_what_is_closed_stays_closed(sb: Sandbox) -> None:
    with sb.stream("cat", interactive=True) as cat:
        pass
    with pytest.raises(ValueError, match="closed"):
        cat.write("late")


def test_a_terminal_outlives_those_who_look(sb: Sandbox) -> None:
    with sb.sessions.open("cat") as terminal:
        session = terminal.session_id
        assert terminal.exit_code is None
    with sb.sessions.attach(session, since=0) as terminal:
        assert (terminal.offset, terminal.gap) == (0, 0)
        terminal.write(b"\x04")
        list(terminal)
        assert terminal.exit_code == 0
        assert terminal.read() is None
