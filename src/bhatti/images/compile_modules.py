"""Compile a tree of Python modules without keeping the sources. Runs as a script, under the guest's own interpreter.

    python3 -I -S compile_modules.py SOURCE INTO OPTIMIZE [NAME LEFT OUT]...

Unchecked-hash caches hold no times, and the file names within are relative to the package: equal sources give equal
files, on whatever machine and in whatever directory.
"""

import py_compile
import sys
from pathlib import Path


def compile_modules(source: Path, into: Path, *, optimize: int, left_out: frozenset[str]) -> None:
    """Write one `.pyc` below `into` for each `.py` below `source` whose path has no part in `left_out`."""
    for path in sorted(source.rglob("*.py")):
        relative = path.relative_to(source)
        if left_out.intersection(relative.parts):
            continue
        target = (into / relative).with_suffix(".pyc")
        target.parent.mkdir(parents=True, exist_ok=True)
        py_compile.compile(
            str(path),
            cfile=str(target),
            dfile=str(Path(source.name) / relative),
            doraise=True,
            optimize=optimize,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def main(arguments: list[str]) -> None:
    """Compile what the command line says."""
    source, into, optimize, *left_out = arguments
    compile_modules(Path(source), Path(into), optimize=int(optimize), left_out=frozenset(left_out))


if __name__ == "__main__":
    main(sys.argv[1:])
