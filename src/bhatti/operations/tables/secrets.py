"""Secrets: values that are kept encrypted and that only the sandboxes have that ask for them."""

from bhatti.errors import CorruptData, LimitExceeded, NotFound, OutOfSpace, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation, Scope

SECRET_SET: Operation[types.SecretSet, types.Secret] = Operation(
    name="secret.set",
    method="POST",
    path="/secrets",
    summary="Keep a secret, or give it another value. Sandboxes that are there keep the value that they have.",
    request=types.SecretSet,
    result=types.Secret,
    status=201,
    errors=(LimitExceeded, OutOfSpace, CorruptData, Unavailable),
)
SECRET_LIST: Operation[None, list[types.Secret]] = Operation(
    name="secret.list",
    method="GET",
    path="/secrets",
    summary="List the caller's secrets by name, without their values.",
    result=list[types.Secret],
    errors=(Unavailable,),
)
SECRET_GET: Operation[None, types.Secret] = Operation(
    name="secret.get",
    method="GET",
    path="/secrets/{name}",
    summary="Show one secret, without its value.",
    result=types.Secret,
    errors=(NotFound, Unavailable),
)
SECRET_REMOVE: Operation[None, types.Outcome] = Operation(
    name="secret.remove",
    method="DELETE",
    path="/secrets/{name}",
    summary="Forget a secret. Sandboxes that have it keep it.",
    result=types.Outcome,
    errors=(NotFound, OutOfSpace, Unavailable),
)
SECRET_ROTATE_KEY: Operation[None, types.KeyRotation] = Operation(
    name="secret.rotate-key",
    method="POST",
    path="/secret-key/rotate",
    summary="Encrypt the secrets of all users with a new key; the old one is gone then.",
    result=types.KeyRotation,
    errors=(OutOfSpace, CorruptData, Unavailable),
    scope=Scope.ADMIN,
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    SECRET_SET,
    SECRET_LIST,
    SECRET_GET,
    SECRET_REMOVE,
    SECRET_ROTATE_KEY,
)
