"""Images."""

from bhatti.errors import (
    Busy,
    Conflict,
    CorruptData,
    EngineFailure,
    Forbidden,
    LimitExceeded,
    MissingDependency,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope, Streams

IMAGE_LIST: Operation[None, list[types.Image]] = Operation(
    name="image.list",
    method="GET",
    path="/images",
    summary="List the images: the administrator's, which everybody may use, and the caller's own.",
    result=list[types.Image],
    errors=(Unavailable,),
)
IMAGE_GET: Operation[None, types.Image] = Operation(
    name="image.get",
    method="GET",
    path="/images/{name}",
    summary="Show one of the images that the caller may use.",
    result=types.Image,
    errors=(NotFound, Unavailable),
)
IMAGE_BUILD: Operation[types.ImageBuild, types.Image] = Operation(
    name="image.build",
    method="POST",
    path="/images/build",
    summary="Build what is missing of an image; streams its progress.",
    request=types.ImageBuild,
    result=types.Image,
    event=types.BuildEvent,
    errors=(MissingDependency, OutOfSpace, CorruptData, NotFound, Unavailable),
    scope=Scope.ADMIN,
    streams=Streams.EVENTS,
)
IMPORT_ERRORS = (NotFound, CorruptData, LimitExceeded, OutOfSpace, MissingDependency, EngineFailure, Unavailable)
"""What taking an image over can meet: not there, not what its digest says, too large, no room, no root, no network."""

IMAGE_IMPORT: Operation[types.ImageImport, types.Image] = Operation(
    name="image.import",
    method="POST",
    path="/images/import",
    summary="Take over an image from an archive or a layout on the daemon's machine; streams its progress.",
    request=types.ImageImport,
    result=types.Image,
    event=types.BuildEvent,
    errors=IMPORT_ERRORS,
    scope=Scope.ADMIN,
    streams=Streams.EVENTS,
)
IMAGE_PULL: Operation[types.ImagePull, types.Image] = Operation(
    name="image.pull",
    method="POST",
    path="/images/pull",
    summary="Take over an image from a registry, as the caller's own; streams its progress.",
    request=types.ImagePull,
    result=types.Image,
    event=types.BuildEvent,
    errors=(*IMPORT_ERRORS, Forbidden),
    streams=Streams.EVENTS,
)
IMAGE_REMOVE: Operation[None, types.Outcome] = Operation(
    name="image.remove",
    method="DELETE",
    path="/images/{name}",
    summary="Remove an image that no sandbox needs.",
    result=types.Outcome,
    errors=(NotFound, Forbidden, Conflict, Unavailable),
)
IMAGE_PRUNE: Operation[None, types.ImagesPruned] = Operation(
    name="image.prune",
    method="POST",
    path="/images/prune",
    summary="Free the disk of what images were replaced and removed, so far as no sandbox needs it, asleep or awake.",
    result=types.ImagesPruned,
    errors=(Busy, Conflict, EngineFailure, Unavailable),
    scope=Scope.ADMIN,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    IMAGE_LIST,
    IMAGE_GET,
    IMAGE_BUILD,
    IMAGE_IMPORT,
    IMAGE_PULL,
    IMAGE_REMOVE,
    IMAGE_PRUNE,
)
