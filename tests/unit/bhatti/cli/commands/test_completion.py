import pytest
from tests.unit.bhatti.cli.conftest import Bhatti


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed(bhatti: Bhatti, shell: str) -> None:
    done = bhatti("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_BHATTI_COMPLETE" in done.out
    assert bhatti("completion", shell, "--json").json()["script"] + "\n" == done.out


def test_other_shells_are_refused(bhatti: Bhatti) -> None:
    assert bhatti("completion", "tcsh").code == 2
