"""Volumes: what outlives sandboxes."""

from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    MissingDependency,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation

VOLUME_ERRORS = (NotFound, Conflict, Busy, OutOfSpace, MissingDependency, EngineFailure, CorruptData, Unavailable)
"""What changing a volume can meet: not there, in use, no room, no tools, damaged."""

VOLUME_CREATE: Operation[types.VolumeCreate, types.Volume] = Operation(
    name="volume.create",
    method="POST",
    path="/volumes",
    summary="Make an empty volume.",
    request=types.VolumeCreate,
    result=types.Volume,
    status=201,
    errors=VOLUME_ERRORS,
)
VOLUME_LIST: Operation[None, list[types.Volume]] = Operation(
    name="volume.list",
    method="GET",
    path="/volumes",
    summary="List the volumes by name, each with the sandboxes that have it.",
    result=list[types.Volume],
    errors=(Unavailable,),
)
VOLUME_GET: Operation[None, types.Volume] = Operation(
    name="volume.get",
    method="GET",
    path="/volumes/{name}",
    summary="Show one volume.",
    result=types.Volume,
    errors=(NotFound, Unavailable),
)
VOLUME_REMOVE: Operation[None, types.Outcome] = Operation(
    name="volume.remove",
    method="DELETE",
    path="/volumes/{name}",
    summary="Remove a volume that no sandbox has, and what is in it.",
    result=types.Outcome,
    errors=VOLUME_ERRORS,
)
VOLUME_RESIZE: Operation[types.VolumeResize, types.Volume] = Operation(
    name="volume.resize",
    method="POST",
    path="/volumes/{name}/resize",
    summary="Make a volume larger that no sandbox has.",
    request=types.VolumeResize,
    result=types.Volume,
    errors=VOLUME_ERRORS,
)
VOLUME_CLONE: Operation[types.VolumeClone, types.Volume] = Operation(
    name="volume.clone",
    method="POST",
    path="/volumes/{name}/clone",
    summary="Make a volume with what is in another one, to which no sandbox may write meanwhile.",
    request=types.VolumeClone,
    result=types.Volume,
    status=201,
    errors=VOLUME_ERRORS,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    VOLUME_CREATE,
    VOLUME_LIST,
    VOLUME_GET,
    VOLUME_REMOVE,
    VOLUME_RESIZE,
    VOLUME_CLONE,
)
