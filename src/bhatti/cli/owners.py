"""Whose things are, for the administrator, who sees those of all users: two of them may have the same name."""

from collections.abc import Sequence

from bhatti.errors import BhattiError
from bhatti.operations import table, types
from bhatti.sdk.client import Client

OURS = "-"
"""What stands where others have a name: it is the administrator's own."""


def owners(caller: Client, sandboxes: Sequence[types.Sandbox]) -> dict[str, str] | None:
    """Return the names of users by their ids; None if it need not be said whose the sandboxes are.

    Users see their own alone. A user who cannot be asked for has the id for a name.
    """
    # The administrator is who comes over the unix socket.
    ids = {sandbox.created_by for sandbox in sandboxes if sandbox.created_by}
    if not caller.endpoint.path or not ids:
        return None
    try:
        names = {user.id: user.name for user in caller.call(table.USER_LIST)}
    except BhattiError:
        names = {}
    return {"": OURS, **{one: names.get(one, one) for one in ids}}
