"""Run the daemon: `python -m bhatti.daemon`."""

import sys

try:
    from bhatti.daemon.main import main
except ModuleNotFoundError as err:
    from bhatti.daemon.extra import refuse

    sys.exit(refuse(err, sys.argv[1:]))

sys.exit(main())
