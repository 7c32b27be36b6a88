"""The shell that a terminal has if nobody names another program."""

LOGIN_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash -li; exec sh -li")
"""Debian has bash; an imported image may have nothing but a shell."""


def shown(command_line: str) -> str:
    """Return what to call a session with this command line, in one line, for a person: the login shell by that name."""
    return "login shell" if command_line == " ".join(LOGIN_SHELL) else " ".join(command_line.split())
