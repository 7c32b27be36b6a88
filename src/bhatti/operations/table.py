"""The table of operations. Paths and status codes are the reference protocol's where it has them.

A new operation is one entry in a module of `tables` and one in the `OPERATIONS` at its end, its types in `types`, and
one handler in `bhatti.server.routes`; the server refuses to start while an entry has no handler.
"""

from bhatti.operations.operation import Operation
from bhatti.operations.tables import (
    checkpoints,
    files,
    guest,
    images,
    observation,
    ports,
    publications,
    sandboxes,
    secrets,
    system,
    tasks,
    templates,
    users,
    volumes,
)
from bhatti.operations.tables.checkpoints import *
from bhatti.operations.tables.files import *
from bhatti.operations.tables.guest import *
from bhatti.operations.tables.images import *
from bhatti.operations.tables.observation import *
from bhatti.operations.tables.ports import *
from bhatti.operations.tables.publications import *
from bhatti.operations.tables.sandboxes import *
from bhatti.operations.tables.secrets import *
from bhatti.operations.tables.system import *
from bhatti.operations.tables.tasks import *
from bhatti.operations.tables.templates import *
from bhatti.operations.tables.users import *
from bhatti.operations.tables.volumes import *

API_REVISION = "1"
"""Sent with every answer as `X-Bhatti-Api`; grows when a client must know that something has changed."""

ALL: tuple[Operation[object, object], ...] = (
    *system.OPERATIONS,
    *sandboxes.OPERATIONS,
    *checkpoints.OPERATIONS,
    *guest.OPERATIONS,
    *files.OPERATIONS,
    *ports.OPERATIONS,
    *publications.OPERATIONS,
    *images.OPERATIONS,
    *tasks.OPERATIONS,
    *observation.OPERATIONS,
    *users.OPERATIONS,
    *volumes.OPERATIONS,
    *secrets.OPERATIONS,
    *templates.OPERATIONS,
)
"""Every operation, in the order in which documents list them."""
