"""Publishing ports: for everybody who knows the address, without a key."""

from bhatti.errors import Conflict, LimitExceeded, NotFound, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation

PUBLISH: Operation[types.PublishRequest, types.Publication] = Operation(
    name="publish",
    method="POST",
    path="/sandboxes/{id}/publish",
    summary=(
        "Publish a port of a sandbox: whoever knows the address may send it requests, and a sandbox that sleeps is "
        "woken for them. One that is published already is answered as it is."
    ),
    request=types.PublishRequest,
    result=types.Publication,
    status=201,
    again=200,
    errors=(NotFound, Conflict, LimitExceeded, Unavailable),
)
PUBLISH_LIST: Operation[None, list[types.Publication]] = Operation(
    name="publish.list",
    method="GET",
    path="/sandboxes/{id}/publish",
    summary="List what is published of a sandbox.",
    result=list[types.Publication],
    errors=(NotFound, Unavailable),
)
PUBLISH_LIST_ALL: Operation[None, list[types.Publication]] = Operation(
    name="publish.list-all",
    method="GET",
    path="/publish",
    summary="List what is published of all sandboxes.",
    result=list[types.Publication],
    errors=(Unavailable,),
)
UNPUBLISH: Operation[None, None] = Operation(
    name="unpublish",
    method="DELETE",
    path="/sandboxes/{id}/publish/{port}",
    summary="Publish a port no more; whoever is served over it is cut off.",
    status=204,
    errors=(NotFound, Unavailable),
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    PUBLISH,
    PUBLISH_LIST,
    PUBLISH_LIST_ALL,
    UNPUBLISH,
)
