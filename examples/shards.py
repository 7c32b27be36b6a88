"""Run the unit tests of a Python project in shards, side by side, each in a fork of one sandbox that has the project.

    python examples/shards.py PROJECT [SHARDS]

Test files are `test_*.py`, anywhere in the project. The exit code is 1 if a shard fails.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bhatti import Result, Sandbox

SHARDS = 4


def shard(prepared: Sandbox, files: list[str]) -> Result:
    """Run some test files in a fork; what they do to their machine, no other shard sees."""
    with prepared.fork() as machine:
        return machine.run(["python3", "-m", "unittest", *files], cwd="project", timeout=600)


def main(project: str, shards: int = SHARDS) -> int:
    """Prepare one sandbox, fork it once per shard; return the exit code."""
    files = sorted(str(path.relative_to(project)) for path in Path(project).rglob("test_*.py"))
    parts = [part for first in range(shards) if (part := files[first::shards])]
    if not parts:
        print(f"{project} has no test_*.py", file=sys.stderr)
        return 2
    with Sandbox.create() as prepared, ThreadPoolExecutor(len(parts)) as threads:
        prepared.files.upload(project, "project")
        results = threads.map(lambda part: shard(prepared, part), parts)
        failed = 0
        for part, result in zip(parts, results, strict=True):
            print(f"{'passed' if result.ok else 'FAILED'}: {' '.join(part)}")
            if not result.ok:
                failed += 1
                print(result.stderr)
    print(f"{len(parts) - failed} of {len(parts)} shards passed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
