"""JSON schemas in words, for the documents that people read."""

from collections.abc import Iterator

from bhatti.operations.openapi import Node


def shape(schema: Node) -> str:
    """Return what a value of `schema` is, in a few words; types of their own by their name."""
    if (reference := schema.get("$ref")) is not None:
        return str(reference).rpartition("/")[2]
    if (choices := schema.get("anyOf")) is not None:
        return " or ".join(shape(choice) for choice in choices)
    if (values := schema.get("enum")) is not None:
        return ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    match schema.get("type"):
        case "array":
            return f"list of {shape(schema['items'])}"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {shape(values)}" if isinstance(values, dict) else "object"
        case "string":
            return _string(schema)
        case "integer" | "number":
            return _number(schema)
        case None:
            return "anything"
        case kind:
            return str(kind)


def _string(schema: Node) -> str:
    if schema.get("contentEncoding"):
        return f"{schema['contentEncoding']} text"
    if schema.get("format") == "date-time":
        return "date and time (RFC 3339)"
    if "pattern" in schema:
        return f"text like `{schema['pattern']}`"
    return f"text, at most {schema['maxLength']} characters" if "maxLength" in schema else "text"


def _number(schema: Node) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    words = "whole number" if schema["type"] == "integer" else "number"
    if low is not None and high is not None:
        return f"{words}, {low:.15g} to {high:.15g}"
    if low is not None:
        return f"{words} {'above' if 'exclusiveMinimum' in schema else 'from'} {low:.15g}"
    return words


def words_of(schema: Node) -> str:
    """Return the description of a type as one paragraph per paragraph, lines joined."""
    paragraphs = str(schema.get("description", "")).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def described_fields(schema: Node) -> Iterator[tuple[str, str, bool, Node]]:
    """Yield name, shape, whether it is required, and schema, of each field of an object."""
    for name, field in schema.get("properties", {}).items():
        yield name, shape(field), name in schema.get("required", ()), field
