"""Sessions of a guest."""

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler
from bhatti.server.guest import entered


async def list_all(call: Call) -> list[types.Session]:
    """List the sessions that run in a sandbox."""
    async with entered(call) as link:
        return [
            types.Session(
                session_id=session.session_id,
                argv=session.argv,
                tty=session.tty,
                running=session.running,
                attached=session.attached,
                created_at=session.created_at,
                exit_code=session.exit_code,
                offset=session.offset,
                start=session.start,
            )
            for session in await link.sessions()
        ]


async def kill(call: Call) -> types.Outcome:
    """End a session."""
    async with entered(call) as link:
        await link.kill_session(call.request.match_info["session"])
    return types.Outcome(status="killed")


HANDLERS: dict[str, Handler] = {table.SESSION_LIST.name: list_all, table.SESSION_KILL.name: kill}
