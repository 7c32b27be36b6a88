"""Run the command line: `python -m bhatti`."""

from bhatti.cli.main import main

main()
