from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.guestlink.conftest import NewLink
from tests.unit.bhatti.guestlink.peers import Peer, listening

from bhatti.errors import GuestFailure, Unavailable
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.commands import Exit, Stderr, Stdout
from bhatti.guestlink.sessions import TerminalStream
from lohar.wire.frames import FrameType, encode
from lohar.wire.messages import ExecRequest, ExitReason, SessionInfo

pytestmark = pytest.mark.anyio


async def output_until(terminal: TerminalStream, wanted: bytes) -> bytes:
    """Read until `wanted` has been seen."""
    seen = b""
    while wanted not in seen:
        data = await terminal.read()
        assert data is not None, f"ended after {seen!r}"
        seen += data
    return seen


async def test_a_shell_echoes_resizes_and_exits(link: GuestLink) -> None:
    async with link.shell(["sh"], rows=24, cols=80) as shell:
        assert shell.session.session_id == "s1"
        assert shell.session.tty
        await shell.write(b"echo hel''lo\n")
        await output_until(shell, b"hello")
        await shell.resize(40, 120)
        await shell.write(b"stty size\n")
        await output_until(shell, b"40 120")
        await shell.write(b"exit 7\n")
        while await shell.read() is not None:
            pass
        assert shell.exit == Exit(7, ExitReason.EXITED)
        assert shell.exit_code == 7


async def test_leaving_detaches_and_the_cursor_goes_on_where_it_stopped(link: GuestLink) -> None:
    async with link.shell(["sh", "-c", "echo first; read x; echo second; read x"]) as shell:
        await output_until(shell, b"first")
        position = shell.position
        session_id = shell.session.session_id
    (listed,) = await link.sessions()
    assert listed.session_id == session_id
    assert listed.running
    async with link.attach(session_id, since=position) as again:
        assert (again.position, again.gap) == (position, 0)
        await again.write(b"\n")
        seen = await output_until(again, b"second")
        assert b"first" not in seen
        assert again.position == position + len(seen)
    async with link.attach(session_id) as whole:
        assert whole.position == 0
        assert b"first" in await output_until(whole, b"second")


async def test_what_is_lost_is_declared(link: GuestLink) -> None:
    command = "head -c 200000 /dev/zero; echo; echo end; read x"
    async with link.session(["sh", "-c", command], ring_bytes=1000) as session:
        await output_until(session, b"end")
        total = session.position
        session_id = session.session.session_id
    async with link.attach(session_id, since=10) as again:
        assert again.gap > 0
        assert again.position == 10 + again.gap
        rest = await output_until(again, b"end")
        assert again.position == total
        assert len(rest) == total - 10 - again.gap


async def test_a_piped_session_keeps_its_outputs_apart(link: GuestLink) -> None:
    async with link.session(["sh", "-c", "echo out; echo err >&2; cat"]) as session:
        events = {type(await anext(session)): None for _ in range(2)}
        assert set(events) == {Stdout, Stderr}
        session_id = session.session.session_id
    async with link.attach(session_id) as again:
        replayed = [await anext(again), await anext(again)]
        assert {Stdout(b"out\n"), Stderr(b"err\n")} == set(replayed)
        await again.close_stdin()
        assert await anext(again) == Exit(0, ExitReason.EXITED)


async def test_a_session_taken_over_ends_the_first_clients_part_only(link: GuestLink) -> None:
    async with link.shell(["sh"]) as first, link.attach(first.session.session_id) as second:
        while await first.read() is not None:
            pass
        assert first.exit == Exit(0, ExitReason.TAKEN_OVER)
        await second.write(b"echo mi''ne\n")
        await output_until(second, b"mine")


async def test_a_session_that_is_attached_can_be_left_alone(link: GuestLink) -> None:
    async with link.shell(["sh"]) as shell:
        with pytest.raises(GuestFailure) as caught:
            async with link.attach(shell.session.session_id, takeover=False):
                pass
        assert caught.value.code == "session-attached"


async def test_a_watcher_sees_and_does_not_touch(link: GuestLink) -> None:
    async with link.shell(["sh"]) as shell, link.attach(shell.session.session_id, read_only=True) as watcher:
        await watcher.write(b"echo intru''der\n")
        await shell.write(b"echo visi''ble\n")
        seen = await output_until(watcher, b"visible")
        assert b"intru" not in seen


async def test_an_unknown_session_is_not_found(link: GuestLink) -> None:
    with pytest.raises(GuestFailure) as caught:
        async with link.attach("s99"):
            pass
    assert caught.value.code == "session-not-found"
    with pytest.raises(GuestFailure):
        await link.kill_session("s99")


async def test_killing_a_session_ends_it_for_who_is_attached(link: GuestLink) -> None:
    async with link.shell(["sleep", "60"]) as shell:
        await link.kill_session(shell.session.session_id)
        while await shell.read() is not None:
            pass
        assert shell.exit is not None
        assert (shell.exit.code, shell.exit.reason) == (137, ExitReason.KILLED)


async def test_an_idle_session_is_killed_after_its_time(link: GuestLink) -> None:
    async with link.shell(["sleep", "60"], max_idle_s=1):
        pass
    # The agent tells nobody of the end of a session which nobody is attached to.
    while any(session.running for session in await link.sessions()):  # noqa: ASYNC110
        await anyio.sleep(0.05)


async def test_outside_its_block_a_session_says_how_to_use_it(link: GuestLink) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = link.attach("s1").session


async def test_a_session_that_does_not_introduce_itself_is_refused(tmp_path: Path, new_link: NewLink) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.expect(FrameType.EXEC_REQ)
        await peer.send(FrameType.STDOUT, b"hello")
        await peer.gone()

    async with listening(tmp_path / "agent", script):
        link = new_link()
        with pytest.raises(Unavailable, match="means nothing"):
            await link.shell(["sh"]).open()
        assert not link._pool._busy


async def test_a_cursor_beyond_the_end_is_the_end(tmp_path: Path, new_link: NewLink) -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        request = ExecRequest.from_json(await peer.expect(FrameType.EXEC_REQ))
        assert request.since == 500
        info = SessionInfo(session_id="s1", running=True, offset=100, start=0)
        await peer.send_raw(encode(FrameType.SESSION_INFO, info.to_json()) + encode(FrameType.STDOUT, b"live"))
        await peer.gone()

    async with listening(tmp_path / "agent", script), new_link().attach("s1", since=500) as session:
        assert session.position == 100
        assert await session.read() == b"live"
        assert session.position == 104
