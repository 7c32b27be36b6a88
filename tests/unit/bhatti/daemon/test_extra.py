import json
import os

import pytest

from bhatti.daemon.extra import missing, refuse

ABSENT = ModuleNotFoundError("No module named 'anyio.abc'", name="anyio.abc")


def test_a_package_of_the_extra_is_told_with_what_brings_it() -> None:
    found = missing(ABSENT)
    assert found is not None
    assert (found.code, found.exit_code) == ("extra-missing", 71)
    assert "bhatti[server]" in str(found.hint)


@pytest.mark.parametrize("error", [ModuleNotFoundError("", name="bhatti.nothing"), ModuleNotFoundError(), OSError()])
def test_what_else_cannot_be_imported_is_a_defect(error: Exception) -> None:
    assert missing(error) is None


def test_people_and_programs_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    assert refuse(ABSENT, ["serve", "--ready-fd", str(writer)]) == 71
    os.close(writer)
    with os.fdopen(reader) as said:
        assert json.loads(said.read())["code"] == "extra-missing"
    assert "hint: pip install" in capfd.readouterr().err
    assert refuse(ABSENT, ["doctor"]) == 71
    assert json.loads(capfd.readouterr().out)["code"] == "extra-missing"


def test_a_defect_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError):
        refuse(ModuleNotFoundError("", name="bhatti.nothing"), ["serve"])
