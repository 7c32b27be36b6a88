"""Write docs/api.md from the table of operations; with `--check`, only say whether it is as it should be."""

import importlib.metadata
import sys
from pathlib import Path

from bhatti.operations.described import rendered

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


def main(arguments: list[str]) -> int:
    """Write or check the page; return 1 if it was found stale."""
    wanted = rendered(importlib.metadata.version("bhatti"), "markdown")
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_bytes() == wanted:
            return 0
        print("docs/api.md is stale: run `python scripts/api_page.py`")
        return 1
    PAGE.write_bytes(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
