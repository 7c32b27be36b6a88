import logging

import pytest

from bhatti.engines.told import told
from bhatti.errors import EngineFailure

LOG = logging.getLogger("bhatti.test")


@pytest.mark.parametrize("error", [EngineFailure("it does not die"), OSError(28, "No space left on device")])
def test_what_goes_wrong_is_told_and_does_not_hold_up_the_rest(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail() -> None:
        raise error

    with told(LOG, "sandbox s1 could not be removed"):
        fail()
    assert caplog.messages == [f"sandbox s1 could not be removed: {error}"]


def test_a_defect_is_nobody_s_to_pass_over() -> None:
    with pytest.raises(ZeroDivisionError), told(LOG, "x"):
        raise ZeroDivisionError
