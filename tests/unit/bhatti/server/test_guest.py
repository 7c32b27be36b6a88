import pytest
from aiohttp.test_utils import make_mocked_request
from tests.serving import Served

from bhatti.errors import BhattiError, Conflict, GuestFailure, NotFound, Unavailable
from bhatti.operations.table import EXEC
from bhatti.server.call import Call
from bhatti.server.guest import HINTS, entered, explained

pytestmark = pytest.mark.anyio


def call(served: Served, ref: str = "one") -> Call:
    request = make_mocked_request("POST", f"/sandboxes/{ref}/exec")
    request.match_info["id"] = ref
    return Call(EXEC, request, served.service, "req_1")


async def test_the_link_leads_into_the_sandbox(served: Served) -> None:
    await served.create()
    async with entered(call(served)) as link:
        assert (await link.exec(["true"])).exit_code == 0


async def test_nobody_is_entered_who_is_not_there(served: Served) -> None:
    with pytest.raises(NotFound):
        async with entered(call(served, "nobody")):
            pass


@pytest.mark.parametrize("code", ["no-such-file", "session-not-found"])
async def test_what_is_not_there_in_the_guest_is_not_found_for_the_caller(served: Served, code: str) -> None:
    await served.create()
    with pytest.raises(NotFound) as caught:
        async with entered(call(served)):
            raise GuestFailure("agent error: no such file", code=code)
    assert (caught.value.code, caught.value.hint) == (code, HINTS[code])


async def test_other_words_of_the_agent_keep_their_class_and_get_a_hint(served: Served) -> None:
    await served.create()
    with pytest.raises(GuestFailure) as caught:
        async with entered(call(served)):
            raise GuestFailure("agent error: x", code="command-not-found")
    assert caught.value.hint == HINTS["command-not-found"]
    told = await explained(call(served), GuestFailure("x", code="command-not-found", hint="its own"))
    assert isinstance(told, BhattiError)
    assert told.hint == "its own"


async def test_a_lost_guest_is_explained(served: Served) -> None:
    made = await served.create()
    await served.engine.destroy(made.id)
    with pytest.raises(Conflict, match="has failed") as caught:
        async with entered(call(served)):
            raise Unavailable("lost the connection")
    assert caught.value.code == "not-running"


async def test_errors_of_our_own_pass(served: Served) -> None:
    await served.create()
    with pytest.raises(KeyError):
        async with entered(call(served)):
            raise KeyError("x")


async def test_what_the_guests_wire_has_no_words_for_is_the_callers_mistake(served: Served) -> None:
    await served.create()
    for detach in (False, True):
        body = {"cmd": ["true"], "env": {"": "x"}, "detach": detach}
        async with served.http.post("/sandboxes/one/exec", json=body) as response:
            assert response.status == 400
            assert (await response.json())["error"] == "the request is not right: env: an empty key"
