"""Show a directory as a website that is served by a sandbox, as long as Enter is not pressed.

    python examples/web_preview.py DIRECTORY [PORT]

Where the daemon has a gateway (`gateway.listen`) the address is one for everybody; else it is one of this machine.
"""

import sys
from contextlib import ExitStack

from bhatti import Sandbox
from bhatti.errors import Conflict

PORT = 8000
"""Of the sandbox, which has all of them for itself."""


def main(directory: str, port: int = PORT) -> None:
    """Serve the directory until Enter; nothing is left afterwards."""
    with Sandbox.create() as sandbox, ExitStack() as until_the_end:
        sandbox.files.upload(directory, "site")
        sandbox.spawn(["python3", "-m", "http.server", "--directory", "site", str(port)])
        sandbox.run(f"until curl -so /dev/null http://127.0.0.1:{port}/; do sleep 0.1; done", timeout=60, check=True)
        try:
            url = sandbox.publish(port).url
        except Conflict:  # no gateway
            url = until_the_end.enter_context(sandbox.ports.forward(port)).url
        print(url, flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
