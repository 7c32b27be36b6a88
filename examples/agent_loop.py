"""An agent's loop: write a program, run its tests in a fork of one prepared sandbox, read what failed, write it anew.

Each draft is tried in a machine of its own that begins where the prepared one stands, so that no attempt meets what an
earlier one left behind. Put a model where `propose` is.
"""

import sys

from bhatti import Sandbox

TESTS = """
import unittest
from roman import roman

class Roman(unittest.TestCase):
    def test_small(self):
        self.assertEqual([roman(n) for n in (1, 2, 3, 5, 10)], ["I", "II", "III", "V", "X"])

    def test_subtracted(self):
        self.assertEqual([roman(n) for n in (4, 9, 40, 90, 400, 900)], ["IV", "IX", "XL", "XC", "CD", "CM"])

    def test_long(self):
        self.assertEqual(roman(1984), "MCMLXXXIV")
"""

LETTERS = '{"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}'
PAIRS = """{
    "M": 1000, "CM": 900, "D": 500, "CD": 400, "C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10, "IX": 9, "V": 5, "IV": 4,
    "I": 1,
}"""
PROGRAM = """
def roman(number):
    text = ""
    for letters, value in LETTERS.items():
        count, number = divmod(number, value)
        text += letters * count
    return text
"""
DRAFTS = [
    "def roman(number):\n    return 'I' * number\n",
    f"LETTERS = {LETTERS}{PROGRAM}",
    f"LETTERS = {PAIRS}{PROGRAM}",
]


def propose(reports: list[str]) -> str:
    """Return the next draft, given what the tests said about those before: what a model would be asked for."""
    return DRAFTS[len(reports)]


def main() -> int:
    """Go on until the tests pass or there is no further draft; return the exit code."""
    reports: list[str] = []
    with Sandbox.create() as prepared:
        prepared.files.write_text("test_roman.py", TESTS)
        while len(reports) < len(DRAFTS):
            draft = propose(reports)
            with prepared.fork() as attempt:
                attempt.files.write_text("roman.py", draft)
                result = attempt.run(["python3", "-m", "unittest", "test_roman"], timeout=120)
            print(f"draft {len(reports) + 1}: {result.stderr.splitlines()[-1]}", flush=True)
            if result.ok:
                prepared.files.write_text("roman.py", draft)
                print(prepared.run(["python3", "-c", "from roman import roman; print(roman(2026))"]).stdout, end="")
                return 0
            reports.append(result.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
