"""Check that tests/unit mirrors src: every module has its test file and every test file its module."""

import sys
from pathlib import Path

EXEMPT = {"__init__.py", "__main__.py"}
"""`__init__` holds docstrings, `__main__` is run as a process by the agent and command-line tests."""


def main() -> int:
    """Print what is missing on either side; return 1 if anything is."""
    root = Path(__file__).resolve().parent.parent
    source, tests = root / "src", root / "tests" / "unit"
    modules = {path.relative_to(source) for path in source.rglob("*.py") if path.name not in EXEMPT}
    tested = {path.relative_to(tests).with_name(path.name.removeprefix("test_")) for path in tests.rglob("test_*.py")}
    for module in sorted(modules - tested):
        print(f"src/{module} has no tests/unit/{module.with_name('test_' + module.name)}")
    for module in sorted(tested - modules):
        print(f"tests/unit/{module.with_name('test_' + module.name)} tests no src/{module}")
    return 1 if modules ^ tested else 0


if __name__ == "__main__":
    sys.exit(main())
