import pytest

from bhatti.errors import GuestFailure, GuestTimeout, Unavailable
from bhatti.guestlink import failures


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("start: fork/exec /nonexistent: no such file or directory", "command-not-found"),
        ('start: exec: "x": executable file not found in $PATH', "command-not-found"),
        ("start: chdir /nowhere: no such file or directory", "no-such-file"),
        ("start: fork/exec /etc: permission denied", "permission-denied"),
        ("open /a: no such file or directory", "no-such-file"),
        ("stat /a: no such file or directory", "no-such-file"),
        ("/etc is a directory", "is-a-directory"),
        ("/dev/null is not a regular file", "not-a-regular-file"),
        ("/etc/passwd is not a directory", "not-a-directory"),
        ("open /etc/passwd/x.bhatti-tmp: not a directory", "not-a-directory"),
        ("rename /tmp/x: file exists", "is-a-directory"),
        ("file size must be >= 0", "bad-size"),
        ("file too large: 5 bytes (max 4)", "file-too-large"),
        ("write /a: no space left on device", "disk-full"),
        ("session not found", "session-not-found"),
        ("session is attached", "session-attached"),
        ("session limit exceeded", "session-limit"),
        ("connection limit exceeded", "connection-limit"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "connection-refused"),
        ("auth required", "auth-required"),
        ("empty argv", "empty-argv"),
        ("bad exec request: argv: expected a list, got 3", "bad-request"),
        ("unexpected frame type 0x42", "unsupported"),
        ("something quite new", "guest-failure"),
    ],
)
def test_the_agents_words_get_a_code(text: str, code: str) -> None:
    error = failures.guest_failure(text)
    assert isinstance(error, GuestFailure)
    assert error.code == code
    assert error.message == f"agent error: {text}"


def test_a_lost_connection_says_where_why_and_what_to_do() -> None:
    error = failures.lost("unix:/a", "reset")
    assert isinstance(error, Unavailable)
    assert error.code == "connection-lost"
    assert "unix:/a" in error.message
    assert "reset" in error.message
    assert error.hint


def test_an_unreachable_agent_and_a_foreign_one_are_told_apart() -> None:
    assert failures.unreachable("p", "why").code == "guest-unreachable"
    assert failures.violation("p", "why").code == "protocol-violation"


def test_silence_is_a_timeout_that_says_how_long_it_was() -> None:
    error = failures.silent("tcp:10.0.0.2", "no answer", 15.0)
    assert isinstance(error, GuestTimeout)
    assert "silent for 15 s: no answer" in error.message


def test_what_a_guest_says_moves_no_cursor_and_fills_no_log() -> None:
    assert failures.guest_failure("open /a\x1b[2J\n: no").message == r"agent error: open /a\x1b[2J\n: no"
    assert len(failures.guest_failure("x" * 1_000_000).message) < 2000


def test_output_without_an_end_says_what_was_allowed() -> None:
    error = failures.endless("tcp:10.0.0.2", 2.5)
    assert isinstance(error, GuestTimeout)
    assert "a command that was given 2.5 s" in error.message
    assert error.hint
