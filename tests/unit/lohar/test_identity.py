import base64
import os
import time

import pytest
from tests.unit.lohar.serving import Client

from lohar.config import AgentConfig
from lohar.failures import RequestError
from lohar.identity import apply_identity, apply_resumed
from lohar.wire.frames import FrameType
from lohar.wire.messages import Identity, IdentityFile, Resumed


def identity(**changes: object) -> Identity:
    return Identity(generation=1, clock_ns=time.time_ns(), entropy=os.urandom(32), **changes)  # type: ignore[arg-type]


def test_what_is_given_replaces_and_what_is_not_stays() -> None:
    before = AgentConfig(token="old", hostname="golden", env={"A": "1"}, user="lohar")
    after = apply_identity(before, identity(token="new", files={"/x": IdentityFile(content=b"y", mode="0600")}))
    assert (after.generation, after.token, after.hostname, after.env) == (1, "new", "golden", {"A": "1"})
    assert [(file.path, file.content, file.mode) for file in after.files] == [("/x", b"y", 0o600)]


@pytest.mark.parametrize(
    "changes",
    [{"env": {"A=B": "c"}}, {"files": {"relative": IdentityFile(content=b"")}}, {"dns": ("1.1.1.1 options",)}],
)
def test_nonsense_is_refused_and_nothing_changes(changes: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="identity: "):
        apply_identity(AgentConfig(), identity(**changes))


def test_outside_of_a_machine_nobody_sets_the_clock() -> None:
    before = time.time()
    apply_resumed(AgentConfig(), Resumed(clock_ns=0, entropy=os.urandom(32)))
    apply_identity(AgentConfig(), identity().replace(clock_ns=0))
    assert abs(time.time() - before) < 60


def test_a_generation_is_applied_once(client: Client) -> None:
    message = {
        "generation": 7,
        "clock_ns": time.time_ns(),
        "entropy": base64.b64encode(os.urandom(32)).decode(),
        "sandbox_id": "fork-1",
    }
    client.send(FrameType.IDENTITY_REQ, **message)
    assert client.json(FrameType.IDENTITY_RESP) == {"generation": 7, "applied": True}
    client.send(FrameType.IDENTITY_REQ, **message)
    assert client.json(FrameType.IDENTITY_RESP) == {"generation": 7, "applied": False}
    assert client.hello()["sandbox_id"] == "fork-1"
