from collections.abc import Iterator

import pytest
from tests.daemons import Daemon, daemon


@pytest.fixture(scope="session")
def served() -> Iterator[Daemon]:
    """A daemon in a process of its own, with one sandbox, called `one`."""
    with daemon(BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        found.out("create", "one")
        yield found


@pytest.fixture
def address(served: Daemon, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the daemon is; the environment says so too."""
    for name in ("BHATTI_API_KEY", "BHATTI_STATE_DIR", "BHATTI_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BHATTI_URL", str(served.endpoint))
    return str(served.endpoint)
