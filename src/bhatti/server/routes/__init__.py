"""Handlers of the operations, one module per noun; `HANDLERS` has them all by the operation's name."""

from bhatti.server.call import Handler
from bhatti.server.routes import (
    checkpoints,
    execute,
    files,
    images,
    observation,
    ports,
    proxy,
    publications,
    sandboxes,
    secrets,
    sessions,
    system,
    tasks,
    templates,
    terminals,
    users,
    volumes,
)

HANDLERS: dict[str, Handler] = {
    **system.HANDLERS,
    **sandboxes.HANDLERS,
    **checkpoints.HANDLERS,
    **execute.HANDLERS,
    **terminals.HANDLERS,
    **sessions.HANDLERS,
    **files.HANDLERS,
    **ports.HANDLERS,
    **proxy.HANDLERS,
    **publications.HANDLERS,
    **images.HANDLERS,
    **tasks.HANDLERS,
    **observation.HANDLERS,
    **users.HANDLERS,
    **volumes.HANDLERS,
    **secrets.HANDLERS,
    **templates.HANDLERS,
}
