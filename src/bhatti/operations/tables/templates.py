"""Templates: what sandboxes are created with, under a name."""

from bhatti.errors import Conflict, CorruptData, LimitExceeded, NotFound, OutOfSpace, Unavailable
from bhatti.operations import types
from bhatti.operations.operation import Operation

TEMPLATE_CREATE: Operation[types.TemplateSet, types.Template] = Operation(
    name="template.create",
    method="POST",
    path="/templates",
    summary="Make a template.",
    request=types.TemplateSet,
    result=types.Template,
    status=201,
    errors=(Conflict, LimitExceeded, OutOfSpace, CorruptData, Unavailable),
)
TEMPLATE_LIST: Operation[None, list[types.Template]] = Operation(
    name="template.list",
    method="GET",
    path="/templates",
    summary="List the caller's templates, by name.",
    result=list[types.Template],
    errors=(CorruptData, Unavailable),
)
TEMPLATE_GET: Operation[None, types.Template] = Operation(
    name="template.get",
    method="GET",
    path="/templates/{template}",
    summary="Show one template, named by its name or id.",
    result=types.Template,
    errors=(NotFound, CorruptData, Unavailable),
)
TEMPLATE_REPLACE: Operation[types.TemplateSet, types.Template] = Operation(
    name="template.replace",
    method="PUT",
    path="/templates/{template}",
    summary="Put another template in the place of one, which keeps its id. Sandboxes that are there stay as they are.",
    request=types.TemplateSet,
    result=types.Template,
    errors=(NotFound, Conflict, OutOfSpace, CorruptData, Unavailable),
)
TEMPLATE_REMOVE: Operation[None, types.Outcome] = Operation(
    name="template.remove",
    method="DELETE",
    path="/templates/{template}",
    summary="Remove a template. Sandboxes that were created with it stay.",
    result=types.Outcome,
    errors=(NotFound, OutOfSpace, CorruptData, Unavailable),
)

OPERATIONS: tuple[Operation[object, object], ...] = (
    TEMPLATE_CREATE,
    TEMPLATE_LIST,
    TEMPLATE_GET,
    TEMPLATE_REPLACE,
    TEMPLATE_REMOVE,
)
