import msgspec
import pytest
from tests.daemons import Daemon
from tests.unit.bhatti.cli.conftest import Bhatti, Remote

from bhatti.cli.owners import OURS, owners
from bhatti.operations import table, types
from bhatti.sdk.client import Client
from bhatti.sdk.endpoint import parsed


def listed(caller: Client) -> list[types.Sandbox]:
    return msgspec.json.decode(caller.download(table.SANDBOX_LIST, {}).read(), type=list[types.Sandbox])


@pytest.fixture
def annas(remote: Remote) -> str:
    """The id of a sandbox of anna's that is called as one of the administrator's is."""
    with Client(parsed(remote.url, remote.key)) as anna:
        return anna.call(table.SANDBOX_CREATE, types.SandboxCreate(name="one")).id


def test_the_administrator_is_told_whose_sandboxes_are(served: Daemon, remote: Remote, annas: str) -> None:
    with served.client() as client:
        found = listed(client)
        whose = owners(client, found)
        assert whose is not None
        assert {whose[one.created_by]: one.id == annas for one in found} == {remote.name: True, OURS: False}
        assert owners(client, [one for one in found if one.id != annas]) is None
    with Client(parsed(remote.url, remote.key)) as anna:
        assert owners(anna, listed(anna)) is None


def test_two_of_one_name_can_be_told_apart(bhatti: Bhatti, remote: Remote, annas: str) -> None:
    heading, *rows = (line.split()[:3] for line in bhatti("ls").out.splitlines())
    assert heading == ["NAME", "OWNER", "ID"]
    assert sorted(rows)[1] == ["one", remote.name, annas]
    shown = dict(line.split(None, 1) for line in bhatti("inspect", annas).out.splitlines())
    assert shown["owner"] == remote.name
    assert "owner" not in bhatti("inspect", "one").out


def test_a_user_who_cannot_be_asked_for_is_an_id(served: Daemon, annas: str) -> None:
    with served.client() as client:
        found = [one for one in listed(client) if one.id == annas]
        gone = msgspec.structs.replace(found[0], created_by="usr_gone")
        assert owners(client, [gone]) == {"": OURS, "usr_gone": "usr_gone"}
