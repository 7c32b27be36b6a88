"""The document says what the table says, in valid OpenAPI."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from bhatti.errors import Busy, Conflict, LimitExceeded, Unauthorized
from bhatti.operations import openapi, table, types
from bhatti.operations.operation import Operation, Scope, Streams
from bhatti.operations.table import ALL

DOCUMENT = openapi.document("1.2.3")


def node(operation: Operation[Any, Any], method: str = "") -> dict[str, Any]:
    path = operation.path.replace("{rest:.*}", "{rest}")
    found: dict[str, Any] = DOCUMENT["paths"][path][method or operation.method.lower()]
    return found


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_a_broken_one_would_be_noticed() -> None:
    with pytest.raises(Exception, match="none"):
        OpenAPIV31SpecValidator({**DOCUMENT, "paths": {"/x": {"get": {"responses": "none"}}}}).validate()


def test_every_operation_is_in_it_once() -> None:
    names = [o["operationId"] for path in DOCUMENT["paths"].values() for o in path.values()]
    assert len(set(names)) == len(names)
    relayed = {f"proxy.{method}" for method in openapi.METHODS_OF_ANY}
    assert set(names) - relayed == {operation.name for operation in ALL} - {"proxy"}
    assert relayed <= set(names)


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.name)
def test_every_error_of_the_table_is_documented(operation: Operation[Any, Any]) -> None:
    for method in openapi.METHODS_OF_ANY if operation.method == "*" else ("",):
        responses = node(operation, method)["responses"]
        assert {"400", "500", *(str(cls.http_status) for cls in operation.errors)} <= set(responses)
        for cls in operation.errors:
            assert f"`{cls.code}`" in responses[str(cls.http_status)]["description"]


def test_errors_that_share_a_status_are_all_named() -> None:
    assert openapi.errors_of(table.SANDBOX_STOP)[409] == [Conflict, Busy]
    assert "`busy`" in node(table.SANDBOX_STOP)["responses"]["409"]["description"]


def test_what_anybody_may_call_needs_no_key() -> None:
    for operation in ALL:
        public = operation.scope is Scope.PUBLIC
        for method in openapi.METHODS_OF_ANY if operation.method == "*" else ("",):
            assert (node(operation, method).get("security") == []) == public
        assert (Unauthorized in openapi.errors_of(operation).get(401, [])) != public
        assert (LimitExceeded in openapi.errors_of(operation).get(429, [])) != public


def test_parameters_of_a_query_say_what_they_take() -> None:
    found = {p["name"]: p for p in node(table.EVENT_LIST)["parameters"]}
    assert {"default": 100, "minimum": 1, "maximum": 1000}.items() <= found["limit"]["schema"].items()
    path = {p["name"]: p for p in node(table.FILE_READ)["parameters"]}["path"]
    assert (path["in"], path["required"]) == ("query", True)


def test_a_stream_says_what_its_lines_are() -> None:
    for operation in ALL:
        if operation.streams is Streams.EVENTS:
            found = node(operation)
            assert "application/x-ndjson" in found["responses"][str(operation.status)]["content"]
            name = found["x-event"]["$ref"].rpartition("/")[2]
            assert name in DOCUMENT["components"]["schemas"]


def test_a_body_is_required_when_a_field_of_it_is() -> None:
    assert node(table.EXEC)["requestBody"]["required"]
    assert not node(table.SANDBOX_CREATE)["requestBody"]["required"]
    assert "requestBody" not in node(table.EXEC_SOCKET)
    assert node(table.EXEC_SOCKET)["x-first-message"]["$ref"].endswith("/ExecRequest")


def test_an_answer_to_head_has_no_body() -> None:
    assert all("content" not in response for response in node(table.FILE_STAT)["responses"].values())


def test_types_are_called_what_they_are() -> None:
    assert openapi.reference(types.Sandbox) == "Sandbox"
    assert openapi.reference(list[types.Sandbox]) == "list of Sandbox"
    assert openapi.reference(dict[str, Any]) == "object"
