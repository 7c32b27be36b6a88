import asyncio
import contextlib
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from anyio import to_thread
from tests.privileges import AS_OTHERS
from tests.serving import Served

from bhatti.errors import Unauthorized
from bhatti.model.user import NOBODY, Caller
from bhatti.server.guard import UnderWay, identified, is_administrator

pytestmark = pytest.mark.anyio

STRANGER = 65_534
"""`nobody` of Debian."""


async def test_who_runs_the_daemon_is_its_administrator_on_its_socket_and_nowhere_else(served: Served) -> None:
    async with served.http.get("/me") as response:
        assert (await response.json())["admin"] is True
    async with served.caller() as http, http.get("/me") as response:
        assert response.status == 401


async def test_what_the_administrator_s_requests_say_of_keys_does_not_matter(served: Served) -> None:
    key = await served.user("anna")
    for header in (f"Bearer {key}", "Bearer nonsense", "Basic x"):
        async with served.http.get("/me", headers={"Authorization": header}) as response:
            assert (await response.json())["admin"] is True


@AS_OTHERS
async def test_another_user_of_the_machine_needs_a_key_on_the_socket_too(served: Served, directory: Path) -> None:
    key = await served.user("anna")
    for path in (directory, served.settings.socket.parent):
        path.chmod(0o755)
    served.settings.socket.chmod(0o777)

    async def asked(*options: str) -> str:
        command = ["curl", "-s", "--unix-socket", str(served.settings.socket), *options, "http://bhatti/me"]
        done = await to_thread.run_sync(
            lambda: subprocess.run(command, user=STRANGER, group=STRANGER, cwd="/", capture_output=True, check=True)
        )
        return done.stdout.decode()

    assert '"code":"unauthorized"' in await asked()
    assert '"name":"anna"' in await asked("-H", f"Authorization: Bearer {key}")


async def test_a_connection_that_has_ended_is_nobody_s(served: Served) -> None:
    request = make_mocked_request("GET", "/me")
    request.protocol.transport = None
    assert not is_administrator(request)
    with pytest.raises(Unauthorized):
        identified(request, served.service.accounts)
    with UnderWay().noted(NOBODY, request):
        pass


class Line(asyncio.Transport):
    """A connection that can be cut."""

    is_cut = False

    def abort(self) -> None:
        self.is_cut = True


def test_who_was_cut_takes_nobody_off_the_list_who_has_come_since() -> None:
    under_way, caller = UnderWay(), Caller(owner="usr_1", name="anna")
    before, since = Line(), Line()
    with contextlib.ExitStack() as later:
        with under_way.noted(caller, make_mocked_request("GET", "/me", transport=before)):
            under_way.cut("usr_1")
            later.enter_context(under_way.noted(caller, make_mocked_request("GET", "/me", transport=since)))
        assert (before.is_cut, since.is_cut) == (True, False)
        under_way.cut("usr_1")
        assert since.is_cut


async def test_the_borrowed_socket_is_left_open(served: Served) -> None:
    for _ in range(3):  # over one connection, which is kept
        async with served.http.get("/me") as response:
            assert response.status == 200
    with closing(socket.socket(socket.AF_UNIX)) as another:
        another.connect(str(served.settings.socket))
