import ast
import contextlib
import doctest
import inspect
import io
import traceback
import types
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bhatti import AsyncSandbox

Examples = Callable[[type], Awaitable[int]]


@pytest.fixture
async def sb(address: str) -> AsyncIterator[AsyncSandbox]:
    async with await AsyncSandbox.create() as sandbox:
        yield sandbox


@pytest.fixture
def examples(sb: AsyncSandbox) -> Examples:
    """Run the examples in the docstrings of a class, and return how many there were."""

    async def run(described: type) -> int:
        count = 0
        for found in doctest.DocTestFinder().find(described, globs={"sb": sb, "AsyncSandbox": AsyncSandbox}):
            for example in found.examples:
                said = await _said(example.source, found.globs)
                where = f"{found.name}: {example.source}"
                assert doctest.OutputChecker().check_output(example.want, said, 0), f"{where}gave {said!r}"
                count += 1
        return count

    return run


async def _said(source: str, globs: dict[str, object]) -> str:
    """Run what may await, as Python's prompt would; the standard library's runner of examples cannot."""
    code = compile(source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            outcome = types.FunctionType(code, globs)()
            if inspect.iscoroutine(outcome):
                await outcome
        except Exception:
            traceback.print_exc(file=out)
    return out.getvalue()


@pytest.fixture
def ended(sb: AsyncSandbox) -> Callable[[int], Awaitable[bool]]:
    """Wait until a process of the sandbox has ended, as `tail --pid` does."""

    async def run(pid: int) -> bool:
        return (await sb.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60)).ok

    return run
