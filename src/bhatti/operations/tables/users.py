"""Users, and who the caller is."""

from bhatti.errors import Busy, Conflict, EngineFailure, NotFound, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope

ME: Operation[None, types.Me] = Operation(
    name="me",
    method="GET",
    path="/me",
    summary="Say who the caller is, what they may have and what they have.",
    result=types.Me,
    errors=(Unavailable,),
)
USER_CREATE: Operation[types.UserCreate, types.UserKey] = Operation(
    name="user.create",
    method="POST",
    path="/users",
    summary="Make a user. The answer holds the key, which is not kept and cannot be asked for again.",
    request=types.UserCreate,
    result=types.UserKey,
    status=201,
    errors=(Conflict, Unavailable),
    scope=Scope.ADMIN,
)
USER_LIST: Operation[None, list[types.User]] = Operation(
    name="user.list",
    method="GET",
    path="/users",
    summary="List the users, by name.",
    result=list[types.User],
    errors=(Unavailable,),
    scope=Scope.ADMIN,
)
USER_GET: Operation[None, types.User] = Operation(
    name="user.get",
    method="GET",
    path="/users/{user}",
    summary="Show one user.",
    result=types.User,
    errors=(NotFound, Unavailable),
    scope=Scope.ADMIN,
)
USER_UPDATE: Operation[types.UserUpdate, types.User] = Operation(
    name="user.update",
    method="PATCH",
    path="/users/{user}",
    summary="Change what a user is called or may have.",
    request=types.UserUpdate,
    result=types.User,
    errors=(NotFound, Conflict, Unavailable),
    scope=Scope.ADMIN,
)
USER_ROTATE: Operation[None, types.UserKey] = Operation(
    name="user.rotate",
    method="POST",
    path="/users/{user}/rotate",
    summary="Give a user another key. The old one ends at once, and the connections that it opened with it.",
    result=types.UserKey,
    errors=(NotFound, Unavailable),
    scope=Scope.ADMIN,
)
USER_REMOVE: Operation[None, types.Outcome] = Operation(
    name="user.remove",
    method="DELETE",
    path="/users/{user}",
    summary="Remove a user who has nothing; with `force=true`, all that they have too.",
    query=types.UserRemoveQuery,
    result=types.Outcome,
    errors=(NotFound, Conflict, Busy, EngineFailure, Unavailable),
    scope=Scope.ADMIN,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    ME,
    USER_CREATE,
    USER_LIST,
    USER_GET,
    USER_UPDATE,
    USER_ROTATE,
    USER_REMOVE,
)
