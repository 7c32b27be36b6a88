import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.daemons import Daemon, daemon

from bhatti.cli.failures import report
from bhatti.cli.main import run


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever the command answers
        return json.loads(self.out)


Bhatti = Callable[..., Done]


def ended(capfd: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run the command line in this process, to its end."""
    capfd.readouterr()
    try:
        code = run(list(arguments))
    except BaseException as error:
        code = report(error, as_json="--json" in arguments)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return Done(code, out, err)


@pytest.fixture(scope="session")
def served() -> Iterator[Daemon]:
    """A daemon in a process of its own, which listens on TCP too, with one sandbox, called `one`."""
    with daemon(BHATTI_LISTEN="127.0.0.1:0", BHATTI_GATEWAY_LISTEN="127.0.0.1:0") as found:
        found.out("create", "one")
        yield found


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the tester's own settings."""
    for name in os.environ:
        if name.startswith(("BHATTI_", "XDG_")) or name == "NO_COLOR":
            monkeypatch.delenv(name)


@pytest.fixture
def bhatti(
    served: Daemon, environment: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Bhatti:
    """Run the command line in this process, against the daemon."""
    for name, value in served.env.items():
        if name.startswith("BHATTI_"):
            monkeypatch.setenv(name, value)

    return lambda *arguments: ended(capfd, *arguments)


@dataclass(frozen=True)
class Remote:
    """A daemon as a user of another machine has it."""

    url: str
    name: str
    key: str


@pytest.fixture
def remote(served: Daemon) -> Iterator[Remote]:
    """The daemon, for a user who is called anna."""
    line = next(line for line in served.log.splitlines() if "listening on http://" in line)
    key = served.out("user", "create", "anna").decode().strip()
    yield Remote(line.split("listening on ")[1].split()[0], "anna", key)
    served.out("user", "rm", "--force", "anna")
