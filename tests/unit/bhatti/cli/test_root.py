import re
import subprocess
import sys

from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.root import COMMANDS


def test_help_lists_every_command_without_importing_one() -> None:
    code = (
        "import sys\n"
        "from bhatti.cli.main import run\n"
        "run(['--help'])\n"
        "assert not [name for name in sys.modules if name.startswith('bhatti.cli.commands.')], sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}", done.stdout, re.MULTILINE)
    assert "Exit codes" in done.stdout


def test_an_unknown_command_is_an_error(bhatti: Bhatti) -> None:
    done = bhatti("dance")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'dance'" in done.err


def test_the_version_is_told(bhatti: Bhatti) -> None:
    assert re.fullmatch(r"bhatti \d+\.\d+\.\d+\n", bhatti("--version").out)
