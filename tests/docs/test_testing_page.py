"""The tests that docs/testing.md names are there, where it says."""

import re

from tests.daemons import ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text()


def named() -> list[tuple[str, str]]:
    """Return the tests of the page, each with the file named last before it; a test of "" is a file alone."""
    found = []
    for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE):
        folders = re.findall(r"`(tests/[\w/]+)`", part.partition("\n")[0])
        file = ""
        for path, test in re.findall(r"`([\w/]*\btest_\w+\.py)`|`(test_\w+)`", part):
            file = path or file
            found.append((located(file, folders), test))
    return found


def located(file: str, folders: list[str]) -> str:
    """Return the path of a file that may be named without the folder, the first, that its part of the page is about."""
    return f"{folders[0]}/{file}" if folders and "/" not in file else file


def is_there(file: str, test: str) -> bool:
    path = ROOT / file
    return path.is_file() and (not test or re.search(rf"^ *(async )?def {test}\(", path.read_text(), re.M) is not None)


def test_what_is_named_is_there() -> None:
    found = named()
    assert len(found) > 100
    assert [f"{file}: {test}" for file, test in found if not is_there(file, test)] == []


def test_folders_and_variables_are_there() -> None:
    folders = set(re.findall(r"(tests/[\w/]+)(?=[`\" ])", PAGE))
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    assert [name for name in re.findall(r"\bBHATTI_\w+", PAGE) if f'"{name}"' not in code] == []


def test_no_part_of_the_suite_is_left_out() -> None:
    parts = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert {part for part in parts if f"tests/{part}" not in PAGE} == set()
