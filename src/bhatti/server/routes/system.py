"""The daemon itself."""

import msgspec

from bhatti.operations import table, types
from bhatti.server.call import Call, Handler


async def health(call: Call) -> types.Health:
    """Say whether the daemon serves."""
    health = call.backend.health()
    # How many sandboxes others have is nobody's business.
    return health if call.caller.admin else msgspec.structs.replace(health, sandboxes=None)


async def version(call: Call) -> types.Version:
    """Say which daemon this is."""
    return call.backend.version()


async def doctor(call: Call) -> types.DoctorReport:
    """Look at the machine."""
    return await call.backend.doctor()


HANDLERS: dict[str, Handler] = {
    table.HEALTH.name: health,
    table.VERSION.name: version,
    table.DOCTOR.name: doctor,
}
