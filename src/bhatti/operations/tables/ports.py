"""Ports of sandboxes: who listens, and ways in for requests and for connections."""

from bhatti.errors import Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation, Streams
from bhatti.operations.tables.guest import GUEST_ERRORS

PORT_LIST: Operation[None, list[types.ListeningPort]] = Operation(
    name="port.list",
    method="GET",
    path="/sandboxes/{id}/ports",
    summary="List the ports on which programs in a sandbox listen.",
    result=list[types.ListeningPort],
    errors=GUEST_ERRORS,
    wakes=True,
)
PORT_LIST_ALL: Operation[None, list[types.SandboxPort]] = Operation(
    name="port.list-all",
    method="GET",
    path="/ports",
    summary="List the ports of all sandboxes that are awake; those that sleep sleep on.",
    result=list[types.SandboxPort],
    errors=(Unavailable,),
)
FORWARD: Operation[None, None] = Operation(
    name="forward",
    method="GET",
    path="/sandboxes/{id}/forward/{port}",
    summary=(
        "Connect to a port inside the sandbox. The request has the headers `Connection: Upgrade` and `Upgrade: tcp`; "
        "after the answer, 101, the connection is that port's, both ways and byte by byte, each direction with an end "
        "of its own."
    ),
    status=101,
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.TUNNEL,
)
PROXY: Operation[None, None] = Operation(
    name="proxy",
    method="*",
    path="/sandboxes/{id}/proxy/{port}/{rest:.*}",
    summary="Pass any HTTP request, upgrades included, to a port inside the sandbox.",
    errors=GUEST_ERRORS,
    wakes=True,
    streams=Streams.RELAY,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    PORT_LIST,
    PORT_LIST_ALL,
    FORWARD,
    PROXY,
)
