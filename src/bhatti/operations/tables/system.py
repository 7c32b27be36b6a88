"""The daemon itself."""

from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope

HEALTH: Operation[None, types.Health] = Operation(
    name="health",
    method="GET",
    path="/health",
    summary="Say whether the daemon serves.",
    result=types.Health,
    scope=Scope.PUBLIC,
)
VERSION: Operation[None, types.Version] = Operation(
    name="version",
    method="GET",
    path="/version",
    summary="Say which daemon this is.",
    result=types.Version,
)
DOCTOR: Operation[None, types.DoctorReport] = Operation(
    name="doctor",
    method="GET",
    path="/doctor",
    summary="Look at what this machine can do and what it lacks.",
    result=types.DoctorReport,
    scope=Scope.ADMIN,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    HEALTH,
    VERSION,
    DOCTOR,
)
