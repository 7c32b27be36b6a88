"""The value of a secret is where it has to be, in the sandbox that asked for it, and nowhere else."""

import base64
import re
from pathlib import Path
from secrets import token_hex

import pytest
from tests.daemons import Daemon, daemon

from bhatti.daemon.secrets import KEY_FILE

VALUE = f"s3cret-vALUE-{token_hex(8)}"
"""Nobody else's: the arguments of all processes of this host are searched for it."""

FORMS = (VALUE.encode(), base64.b64encode(VALUE.encode())[:32])
"""As it is, and as JSON carries the bytes of files."""


def leaks(content: bytes) -> bool:
    return any(form in content for form in FORMS)


def command_lines() -> bytes:
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() + b"\n"
        except OSError:  # it has ended
            continue
    return found


def keys_of(served: Daemon) -> list[bytes]:
    return (served.directory / KEY_FILE).read_bytes().splitlines()


def test_a_value_is_in_no_file_log_event_answer_or_argument_but_the_machines_own() -> None:
    with daemon() as served:
        served.out("secret", "set", "TOKEN", stdin=VALUE.encode())
        first = keys_of(served)
        said = served.out("create", "one", "--secret", "TOKEN", "--secret", "TOKEN:/token", "--json")
        said += served.out("fork", "one", "two", "--json")
        arguments = command_lines()
        for name in ("one", "two"):
            assert served.out("exec", name, "--", "sh", "-c", 'printf %s "$TOKEN"') == VALUE.encode()
            said += served.out("inspect", name, "--json") + served.out("inspect", name)
        said += served.out("secret", "rotate-key", "--json") + served.out("secret", "ls", "--json")
        for arguments_of_a_failure in (
            ("secret", "set", "a/b", "--json"),
            ("secret", "set", "TOKEN", "--from-file", "/", "--json"),
            ("create", "one", "--secret", "TOKEN", "--json"),
            ("create", "three", "--image", "dies", "--secret", "TOKEN", "--secret", "TOKEN:/token", "--json"),
            ("create", "three", "--image", "silent", "--secret", "TOKEN", "--json"),
        ):
            failed = served.bhatti(*arguments_of_a_failure, stdin=VALUE.encode())
            assert failed.returncode != 0
            said += failed.stdout + failed.stderr
        said += served.out("events", "--json") + served.out("secret", "rm", "TOKEN", "--json")
        served.out("backup", str(served.directory / "copy"))
        machines = served.directory / "m"
        files = [
            path
            for path in served.directory.rglob("*")
            if path.is_file() and machines not in path.parents and path.name != KEY_FILE
        ]
        assert {"daemon.log", "state.db", "copy"} <= {path.name for path in files}
        assert [path.name for path in files if leaks(path.read_bytes())] == []
        assert not leaks(said)
        assert not leaks(arguments)
        assert b"guest.py" in arguments  # the machines were there when we looked
        for key in first + keys_of(served):
            assert not [path for path in files if key in path.read_bytes()]
            assert key not in said + arguments
        held = [path for path in machines.rglob("*") if path.is_file() and leaks(path.read_bytes())]
        assert held  # what is looked for can be found
        assert {path.stat().st_mode & 0o777 for path in held} == {0o600}
        for name in ("one", "two"):
            served.out("rm", name)
        assert list(machines.rglob("*")) == []


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_daemon_whose_key_others_can_read_says_so_and_does_the_rest(mode: int) -> None:
    with daemon() as served:
        served.out("secret", "set", "TOKEN", stdin=VALUE.encode())
        served.stop()
        (served.directory / KEY_FILE).chmod(mode)
        served.start()
        served.out("create", "one")
        assert re.search(r"secrets cannot be used: .*secrets\.key is not the daemon's alone", served.log)
        refused = served.bhatti("create", "two", "--secret", "TOKEN", "--json")
        assert b"secret-key-exposed" in refused.stderr
        (served.directory / KEY_FILE).chmod(0o600)
        served.out("create", "two", "--secret", "TOKEN")
