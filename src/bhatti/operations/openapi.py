"""The OpenAPI 3.1 document, derived from the table of operations and from nothing else.

https://spec.openapis.org/oas/v3.1.0. What it has no words for is said in extensions: `x-event` is one line of a stream,
`x-first-message` the first message of a WebSocket, `x-scope` who may call, `x-wakes` that a sleeping sandbox is woken.
"""

import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from bhatti.errors import BhattiError, ErrorBody, Forbidden, InvalidRequest, LimitExceeded, Unauthorized, Unavailable
from bhatti.operations import examples
from bhatti.operations.examples import Example
from bhatti.operations.operation import IDEMPOTENCY_KEY, Operation, Scope, Streams
from bhatti.operations.table import ALL, API_REVISION

Node = dict[str, Any]
"""A piece of the document: JSON, whose types OpenAPI defines."""

OPENAPI_VERSION = "3.1.0"

METHODS_OF_ANY = ("get", "post", "put", "patch", "delete", "options", "head", "trace")
"""What `*` stands for; OpenAPI has no word for any method."""

REMAINDER = "{rest:.*}"

PORT_SCHEMA: Node = {"type": "integer", "minimum": 1, "maximum": 65_535}

DESCRIPTION = """\
The daemon listens on a unix socket, whose peers are the local administrator, and, if it is told to, on TCP, where \
every request shows the key of a user: `Authorization: Bearer bht_…`. What belongs to another user is answered as if \
there were no such thing. Every answer has `X-Request-Id`, the id under which the daemon's log knows the request (the \
caller's own, if it sent one), and `X-Bhatti-Api`, the revision of this document. Every error is JSON: `error` says \
what happened, `code` is stable and for programs, `hint` says what to do next."""


def document(version: str, operations: Iterable[Operation[Any, Any]] = ALL) -> Node:
    """Return the document of `operations`, as the daemon of that `version` serves it."""
    schemas = Schemas(operations)
    paths: dict[str, Node] = {}
    for operation in operations:
        item = paths.setdefault(operation.path.replace(REMAINDER, "{rest}"), {})
        methods = METHODS_OF_ANY if operation.method == "*" else (operation.method.lower(),)
        for method in methods:
            item[method] = _operation(operation, method if len(methods) > 1 else "", schemas)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "bhatti",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "x-api-revision": API_REVISION,
        },
        "servers": [{"url": "/", "description": "the daemon that served this document"}],
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": HEADERS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A user's key. Peers of the unix socket need none.",
                }
            },
        },
    }


HEADERS: dict[str, Node] = {
    "X-Request-Id": {
        "description": "The id under which the daemon's log knows the request.",
        "schema": {"type": "string"},
    },
    "X-Bhatti-Version": {"description": "The daemon's version.", "schema": {"type": "string"}},
    "X-Bhatti-Api": {"description": "The revision of the API.", "schema": {"type": "string"}},
}


class Schemas:
    """The JSON schemas of the types that operations name."""

    def __init__(self, operations: Iterable[Operation[Any, Any]]) -> None:
        operations = list(operations)
        bodies = [ErrorBody, *(t for o in operations for t in (o.request, o.result, o.event) if t is not None)]
        queries = [o.query for o in operations if o.query is not None]
        self.components = self._described(bodies)[1]
        # The fields of a query are parameters of their own: the type that holds them is nothing that a caller sees.
        self._queries = {query: self._described([query]) for query in queries}
        self._bodies = dict(zip(bodies, self._described(bodies)[0], strict=True))

    @staticmethod
    def _described(types: Iterable[Any]) -> tuple[list[Node], dict[str, Node]]:
        found, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        return list(found), dict(components)

    def of(self, body: Any) -> Node:  # noqa: ANN401  # a type, perhaps a generic one
        """Return the schema of a type: mostly a reference to a component."""
        return self._bodies[body]

    def query(self, query: type) -> Iterator[tuple[str, Node, bool]]:
        """Yield name, schema and whether it is required, of each parameter."""
        _, components = self._queries[query]
        schema = components[query.__name__]
        for name, field in schema["properties"].items():
            yield name, field, name in schema.get("required", ())


def errors_of(operation: Operation[Any, Any]) -> dict[int, list[type[BhattiError]]]:
    """Return the errors that a caller can meet, by HTTP status: the operation's own, and those of every call."""
    classes: list[type[BhattiError]] = [InvalidRequest, *operation.errors, BhattiError]
    if operation.scope is not Scope.PUBLIC:
        classes += [Unauthorized, LimitExceeded, Unavailable]
    if operation.scope is Scope.ADMIN:
        classes.append(Forbidden)
    found: dict[int, list[type[BhattiError]]] = {}
    for cls in classes:
        known = found.setdefault(cls.http_status, [])
        if cls not in known:
            known.append(cls)
    return dict(sorted(found.items()))


def _operation(operation: Operation[Any, Any], variant: str, schemas: Schemas) -> Node:
    name = f"{operation.name}.{variant}" if variant else operation.name
    example = examples.of(operation)
    node: Node = {
        "operationId": name,
        "summary": operation.summary.partition(". ")[0].rstrip(".") + ".",
        "description": operation.summary,
        "tags": [tag_of(operation)],
        "x-scope": operation.scope.value,
        "x-wakes": operation.wakes,
    }
    if operation.scope is Scope.PUBLIC:
        node["security"] = []
    parameters = [*_path_parameters(operation, example), *_query_parameters(operation, example, schemas)]
    if operation.keyed:
        parameters.append(KEY_PARAMETER)
    if parameters:
        node["parameters"] = parameters
    body = _request_body(operation, variant, example, schemas)
    if body is not None:
        node["requestBody"] = body
    if operation.streams is Streams.SOCKET and operation.request is not None:
        node["x-first-message"] = schemas.of(operation.request)
    if operation.event is not None:
        node["x-event"] = schemas.of(operation.event)
    node["responses"] = _responses(operation, variant or operation.method.lower(), example, schemas)
    return node


def tag_of(operation: Operation[Any, Any]) -> str:
    """Return the noun that documents list an operation under."""
    first = operation.path.split("/")[1]
    if first == "sandboxes" and operation.path.count("/") > 1 and operation.wakes:
        return "inside a sandbox"
    return first if first in ("sandboxes", "images", "users", "volumes", "secrets", "templates", "tasks") else "daemon"


def parameters_of(path: str) -> list[str]:
    """Return the names of a path's parameters, in their order."""
    return [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]


def reference(body: Any) -> str:  # noqa: ANN401  # a type, perhaps a generic one
    """Return the name of a type, as documents refer to it."""
    if isinstance(body, type) and issubclass(body, msgspec.Struct):
        return body.__name__
    arguments = typing.get_args(body)
    return f"list of {reference(arguments[0])}" if typing.get_origin(body) is list else "object"


def _path_parameters(operation: Operation[Any, Any], example: Example) -> Iterator[Node]:
    for name in parameters_of(operation.path):
        schema = PORT_SCHEMA if name == "port" else {"type": "string", "minLength": 1}
        value = example.parameters[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": WORDS.get(name, ""),
            "schema": schema,
            "example": int(value) if name == "port" else value,
        }


KEY_PARAMETER: Node = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "The same request with the same key is answered with the sandbox that it made, while that exists.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}

WORDS = {
    "id": "The sandbox: its id, its name, or the unique beginning of its id.",
    "name": "The name.",
    "task": "The task: its id, or the unique beginning of it.",
    "template": "The template: its name, its id, or the unique beginning of its id.",
    "user": "The user: the name, the id, or the unique beginning of the id.",
    "port": "A port inside the sandbox.",
    "rest": "What the server inside is asked for; slashes are as good as any other character.",
}
"""What the parameters of paths mean."""


def _query_parameters(operation: Operation[Any, Any], example: Example, schemas: Schemas) -> Iterator[Node]:
    if operation.query is None:
        return
    for name, schema, required in schemas.query(operation.query):
        parameter: Node = {"name": name, "in": "query", "required": required, "schema": schema}
        if name in example.query:
            parameter["example"] = msgspec.to_builtins(example.query[name])
        yield parameter


def _request_body(operation: Operation[Any, Any], variant: str, example: Example, schemas: Schemas) -> Node | None:
    if operation.streams is Streams.UPLOAD:
        return {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    if operation.streams is Streams.RELAY and variant not in ("get", "head", "delete", "options", "trace"):
        return {"description": "anything", "content": {"application/octet-stream": {"schema": {}}}}
    if operation.request is None or operation.streams is Streams.SOCKET:
        return None
    content: Node = {"schema": schemas.of(operation.request)}
    if example.request is not None:
        content["example"] = msgspec.to_builtins(example.request)
    needed = any(field.required for field in msgspec.structs.fields(operation.request))
    return {"required": needed, "content": {"application/json": content}}


def _responses(operation: Operation[Any, Any], method: str, example: Example, schemas: Schemas) -> Node:
    headers: Node = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    responses: Node = {str(operation.status): {"description": "Done.", "headers": headers}}
    if content := _content(operation, example, schemas):
        responses[str(operation.status)]["content"] = content
    if operation.again is not None:
        responses[str(operation.again)] = responses[str(operation.status)] | {"description": "It was so already."}
    if operation.streams is Streams.RELAY:
        responses = {"default": {"description": "Whatever the server inside the sandbox answers."}}
    for status, classes in errors_of(operation).items():
        responses[str(status)] = _error(status, classes, headers, with_body=method != "head")
    return responses


def _content(operation: Operation[Any, Any], example: Example, schemas: Schemas) -> Node:
    content: Node = {}
    if operation.result is not None:
        content["application/json"] = {"schema": schemas.of(operation.result)}
        if example.answer is not None:
            content["application/json"]["example"] = msgspec.to_builtins(example.answer)
    if operation.streams is Streams.EVENTS and operation.event is not None:
        content["application/x-ndjson"] = {"schema": {"description": "One `x-event` a line, as it happens."}}
    if operation.streams is Streams.DOWNLOAD:
        content["application/octet-stream"] = {"schema": {}}
    if operation.media is not None:
        content[operation.media.partition(";")[0]] = {"schema": {}}
    return content


def _error(status: int, classes: list[type[BhattiError]], headers: Mapping[str, Node], *, with_body: bool) -> Node:
    words = [f"`{cls.code}`: {(cls.__doc__ or '').splitlines()[0]}" for cls in classes]
    if BhattiError in classes:
        words[classes.index(BhattiError)] = "`internal`: a defect of bhatti; the log has it under the request's id."
    node: Node = {"description": " ".join(words), "headers": dict(headers)}
    if status == 503:
        node["headers"]["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    if with_body:
        node["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
        if status == 400:
            node["description"] += " What is not HTTP at all, or a line of more than 32 KiB, is refused in plain text."
            node["content"]["text/plain"] = {"schema": {"type": "string"}}
    return node
