"""Run the daemon: `python -m bhatti.daemon`."""

import sys

from bhatti.daemon.main import main

sys.exit(main())
