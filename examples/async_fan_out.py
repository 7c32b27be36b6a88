"""What fan_out.py does, in an event loop: try several fixes of a program at once, each in a fork of one sandbox."""

import asyncio

from bhatti import AsyncSandbox

PROGRAM = "def double(n):\n    return FIX\n"
TEST = "from program import double\nassert double(4) == 8\nassert double(5) == 10\n"
FIXES = ["n + 4", "n * n / 2", "n * 2"]


async def works(prepared: AsyncSandbox, fix: str) -> bool:
    """Say whether the test passes with `fix`; whatever it breaks, it breaks in a sandbox of its own."""
    async with await prepared.fork() as attempt:
        await attempt.files.write_text("program.py", PROGRAM.replace("FIX", fix))
        return (await attempt.run(["python3", "test.py"], timeout=60)).ok


async def main() -> None:
    """Prepare one sandbox, fork it once per fix."""
    async with await AsyncSandbox.create() as prepared:
        await prepared.files.write_text("test.py", TEST)
        verdicts = await asyncio.gather(*(works(prepared, fix) for fix in FIXES))
    for fix, verdict in zip(FIXES, verdicts, strict=True):
        print(f"{fix}: {'works' if verdict else 'fails'}")


if __name__ == "__main__":
    asyncio.run(main())
