"""Try several fixes of a program at once, each in a fork of the same prepared sandbox; keep the first that works."""

from concurrent.futures import ThreadPoolExecutor

from bhatti import Sandbox

PROGRAM = "def double(n):\n    return FIX\n"
TEST = "from program import double\nassert double(4) == 8\nassert double(5) == 10\n"
FIXES = ["n + 4", "n * n / 2", "n * 2"]


def works(prepared: Sandbox, fix: str) -> bool:
    """Say whether the test passes with `fix`; whatever it breaks, it breaks in a sandbox of its own."""
    with prepared.fork() as attempt:
        attempt.files.write_text("program.py", PROGRAM.replace("FIX", fix))
        return attempt.run(["python3", "test.py"], timeout=60).ok


def main() -> None:
    """Prepare one sandbox, fork it once per fix."""
    with Sandbox.create() as prepared, ThreadPoolExecutor() as threads:
        prepared.files.write_text("test.py", TEST)
        verdicts = threads.map(lambda fix: works(prepared, fix), FIXES)
        for fix, verdict in zip(FIXES, verdicts, strict=True):
            print(f"{fix}: {'works' if verdict else 'fails'}")


if __name__ == "__main__":
    main()
