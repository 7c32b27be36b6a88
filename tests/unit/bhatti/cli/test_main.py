import subprocess
import sys

import pytest
from tests.daemons import Daemon

from bhatti.cli.main import main, plain_exec


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("exec one true", "one true"),
        ("exec one -- ls -la", "one ls -la"),
        ("exec one ls -la", "one ls -la"),
        ("exec one sh -c --json", "one sh -c --json"),
        ("exec one -- -x", "one -x"),
    ],
)
def test_a_plain_exec_is_recognised(line: str, expected: str) -> None:
    assert plain_exec(line.split()) == expected.split()


@pytest.mark.parametrize(
    "line", ["", "exec", "exec one", "exec one --", "exec -t 5 one true", "exec one -e A=b true", "exec --help", "ls"]
)
def test_anything_else_goes_the_long_way(line: str) -> None:
    assert plain_exec(line.split()) == []


def test_a_plain_exec_imports_neither_click_nor_msgspec(served: Daemon) -> None:
    code = (
        "import sys\n"
        "from bhatti.cli.main import run\n"
        "assert run(['exec', 'one', '--', 'true']) == 0\n"
        "assert not {'click', 'msgspec', 'rich', 'asyncio', 'http', 'typing'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=served.env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_both_ways_end_alike(served: Daemon) -> None:
    for arguments in (["exec", "one", "--", "sh", "-c", "exit 9"], ["exec", "-n", "one", "--", "sh", "-c", "exit 9"]):
        assert served.bhatti(*arguments).returncode == 9
    for arguments in (["exec", "nobody", "true"], ["exec", "-n", "nobody", "true"]):
        done = served.bhatti(*arguments)
        assert (done.returncode, done.stderr.splitlines()[0]) == (4, b"bhatti: there is no sandbox 'nobody'")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["version"], 0), (["--version"], 0), (["nonsense"], 2), (["exec", "nobody", "x"], 4)]
)
def test_the_process_ends_with_the_commands_code(
    served: Daemon, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("BHATTI_STATE_DIR", str(served.directory))
    monkeypatch.setattr(sys, "argv", ["bhatti", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


def test_a_reader_who_leaves_is_no_error(served: Daemon) -> None:
    with served.popen("ls", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BrokenPipeError()])
def test_ways_to_be_interrupted(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    import os

    import bhatti.cli.main as module

    def interrupted(arguments: list[str]) -> int:
        raise error

    keep = os.dup(1)
    monkeypatch.setattr(module, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    os.dup2(keep, 1)
    os.close(keep)
    assert ended.value.code == (130 if isinstance(error, KeyboardInterrupt) else 141)
    assert capfd.readouterr().err == ""


def test_errors_after_the_double_dash_are_not_ours_to_make_json_of(served: Daemon) -> None:
    for arguments in (["-n", "nobody", "--", "tool", "--json"], ["nobody", "tool", "--json"]):
        assert served.bhatti("exec", *arguments).stderr.startswith(b"bhatti: ")
    done = served.bhatti("exec", "--json", "nobody", "--", "tool")
    assert done.stderr.startswith(b"{")
