import pytest
from tests.daemons import Daemon

from bhatti.cli.places import Places
from bhatti.errors import InvalidRequest, NotFound


@pytest.fixture(scope="module")
def home(served: Daemon) -> str:
    return served.out("exec", "one", "--", "pwd").decode().strip()


def test_a_relative_path_begins_where_commands_run(served: Daemon, home: str) -> None:
    with served.client() as client:
        places = Places(client, "one")
        assert places.absolute("a/b") == f"{home}/a/b"
        assert places.absolute("../a") == f"{home}/../a"
        assert places.absolute("a/.") == f"{home}/a/."
        assert [places.absolute(path) for path in (".", "./")] == [home, home]
        assert places.directory() == home


def test_an_absolute_path_asks_nobody(served: Daemon) -> None:
    with served.client() as client:
        places = Places(client, "nobody")
        assert places.absolute("/a/../b") == "/a/../b"
        assert places.absolute("") == ""
        with pytest.raises(NotFound, match="nobody"):
            places.absolute("a")


def test_a_sandbox_that_cannot_say_where_commands_run_wants_all_of_the_path(served: Daemon) -> None:
    """As an image of a single program does, which has no `pwd`."""
    served.out("create", "bare", "--env", "PATH=/nowhere")
    try:
        with served.client() as client:
            with pytest.raises(InvalidRequest, match="'a' is a relative path, and sandbox 'bare'") as caught:
                Places(client, "bare").absolute("a")
            assert caught.value.code == "bad-path"
            assert Places(client, "bare").absolute("/a") == "/a"
    finally:
        served.out("rm", "bare")
