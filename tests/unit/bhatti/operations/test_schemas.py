import pytest

from bhatti.operations.schemas import described_fields, shape, words_of


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/components/schemas/Sandbox"}, "Sandbox"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Sandbox"}}, "list of Sandbox"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"enum": ["a", 1]}, '"a", 1'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of text"),
        ({"type": "object"}, "object"),
        ({"type": "string", "contentEncoding": "base64"}, "base64 text"),
        ({"type": "string", "format": "date-time"}, "date and time (RFC 3339)"),
        ({"type": "string", "pattern": "^a$"}, "text like `^a$`"),
        ({"type": "string", "maxLength": 5}, "text, at most 5 characters"),
        ({"type": "integer", "minimum": 1, "maximum": 65535}, "whole number, 1 to 65535"),
        ({"type": "integer", "minimum": 0}, "whole number from 0"),
        ({"type": "number", "exclusiveMinimum": 0}, "number above 0"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({}, "anything"),
    ],
)
def test_a_schema_in_words(schema: dict[str, object], words: str) -> None:
    assert shape(schema) == words


def test_a_description_is_joined_within_its_paragraphs() -> None:
    assert words_of({"description": "One\n  two.\n\nThree."}) == "One two.\n\nThree."
    assert words_of({}) == ""


def test_fields_say_whether_they_are_needed() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}, "required": ["a"]}
    assert [field[:3] for field in described_fields(schema)] == [("a", "text", True), ("b", "boolean", False)]
