"""Everything that is measured, one section after the other: `python -m bench > table.md`, or the sections named."""

import importlib
import sys

from bench.measure import table

SECTIONS = {
    "wire": "The wire",
    "client": "The agent and the link",
    "agent": "The agent's own size",
    "boot": "A machine from nothing",
    "life": "The life of a sandbox",
    "kvm": "The VM engines beside each other",
    "density": "Many sandboxes at once",
    "docker": "Sandboxes as containers",
    "cli": "The command line and the daemon",
    "files": "Files in and out of a sandbox",
    "api": "Single calls through the API",
    "proxy": "Ways to a server in a sandbox",
    "callers": "The daemon with many callers",
}
"""Modules of this package in order, each with a `rows()`, and what their tables are called."""


def main(names: list[str]) -> int:
    """Print the tables of the sections `names`, or of all."""
    unknown = set(names) - set(SECTIONS)
    if unknown:
        print(f"bench: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    for name in names or SECTIONS:
        print(table(SECTIONS[name], importlib.import_module(f"bench.{name}").rows()), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
