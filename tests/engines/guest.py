"""The agent as the local engine starts it: in test mode, with the home and environment of its sandbox.

A login shell must not read the profile of whoever runs the tests: what that starts may take longer than any test waits.
"""

import json
import os
import sys
from pathlib import Path

from lohar.config import AgentConfig
from lohar.testmode import run

if __name__ == "__main__":
    home, env_file = sys.argv[1:]
    env = json.loads(Path(env_file).read_text())
    sys.exit(run(dict(os.environ), AgentConfig(home=home, uid=os.getuid(), gid=os.getgid(), env=env)))
