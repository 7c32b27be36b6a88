import pytest
from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_sessions_are_listed(own: Served) -> None:
    async with own.http.get("/sandboxes/one/sessions") as response:
        assert await response.json() == []
    async with own.http.ws_connect("/sandboxes/one/ws?cmd=cat") as socket:
        session = await socket.receive_json()
        async with own.http.get("/sandboxes/one/sessions") as response:
            (found,) = await response.json()
    assert found["session_id"] == session["session_id"]
    assert (found["argv"], found["tty"], found["running"], found["attached"]) == ("cat", True, True, True)
    assert isinstance(found["created_at"], int)


async def test_a_session_is_ended(own: Served) -> None:
    async with own.http.ws_connect("/sandboxes/one/ws?cmd=cat") as socket:
        session = await socket.receive_json()
        async with own.http.delete(f"/sandboxes/one/sessions/{session['session_id']}") as response:
            assert (response.status, await response.json()) == (200, {"status": "killed"})
        end = await socket.receive_json()
    assert (end["type"], end["exit_code"]) == ("exit", 137)
    async with own.http.delete("/sandboxes/one/sessions/nothing") as response:
        assert (response.status, (await response.json())["code"]) == (404, "session-not-found")


async def test_nobody_has_no_sessions(own: Served) -> None:
    async with own.http.get("/sandboxes/nobody/sessions") as response:
        assert response.status == 404
