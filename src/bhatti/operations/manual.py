"""The API as Markdown, for `docs/api.md`: every operation with a call that can be pasted into a shell."""

import json
import shlex
from collections.abc import Iterable, Iterator
from urllib.parse import quote

import msgspec

from bhatti.operations import examples, openapi
from bhatti.operations.openapi import Node
from bhatti.operations.operation import IDEMPOTENCY_KEY, Operation, Scope, Streams
from bhatti.operations.schemas import described_fields, shape, words_of
from bhatti.operations.table import ALL

SOCKET = "/run/bhatti/bhatti.sock"

INTRODUCTION = f"""\
# The API

This page is made from the table of operations (`src/bhatti/operations`) by `scripts/api_page.py`; a test runs
the examples on it. A daemon serves the same as an OpenAPI 3.1 document at `/openapi.json` and as a page at `/docs`.

The daemon listens on a unix socket, in the examples `{SOCKET}`, whose peers are the local
administrator. Bodies are JSON unless said otherwise; unknown fields are refused. Sandboxes, templates
and users are named by their name, their id or its unique beginning, tasks by one of the latter. Calls that enter a
sandbox wake it when it sleeps.

Every answer has `X-Request-Id`, the id under which the daemon's log knows the request (the caller's own, if it sent
one), and `X-Bhatti-Api`, the revision of this API. Every error is JSON: `error` says what happened, `code` is stable
and for programs, `hint` says what to do next:

```json
{{"error": "there is no sandbox 'agent-2'", "code": "sandbox-not-found", "hint": "`bhatti ls` shows the names and ids",
 "request_id": "req_5f0c4be1a7d23f60", "kind": "not-found"}}
```
"""

SCOPES = {
    Scope.PUBLIC: "for anybody",
    Scope.USER: "for every user, about what is theirs",
    Scope.ADMIN: "for the administrator",
}


def markdown(document: Node) -> str:
    """Return the page of an OpenAPI document."""
    lines = [INTRODUCTION, "## Operations\n"]
    lines += [f"- [`{o.method} {shown_path(o)}`](#{anchor(o.name)}): {o.name}" for o in ALL]
    lines.append("")
    for operation in ALL:
        lines += _section(operation, document)
    lines.append("## Types\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _type(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def anchor(title: str) -> str:
    """Return what a heading is linked by: lower case, without punctuation."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def shown_path(operation: Operation[object, object]) -> str:
    """Return an operation's path without patterns."""
    return operation.path.replace(openapi.REMAINDER, "{rest}")


def call(operation: Operation[object, object]) -> tuple[str, str]:
    """Return the language and the text of an operation's example call."""
    example = examples.of(operation)
    target = operation.target(example.parameters)
    if example.query:
        target += "?" + "&".join(f"{name}={quote(_text(value), safe='/')}" for name, value in example.query.items())
    if operation.streams is Streams.SOCKET:
        return "python", _conversation(target, example)
    return "sh", _curl(operation, target, example)


def _curl(operation: Operation[object, object], target: str, example: examples.Example) -> str:
    words = ["curl", "--unix-socket", SOCKET]
    if operation.method == "HEAD":
        words.append("--head")
    elif operation.method not in ("GET", "*") and not (operation.method == "POST" and example.request is not None):
        words += ["-X", operation.method]
    if operation.streams is Streams.TUNNEL:
        words += ["-H", "Connection: Upgrade", "-H", "Upgrade: tcp"]
    words.append(f"http://bhatti{target}")
    if example.request is not None:
        words += ["--json", msgspec.json.encode(example.request).decode()]
    if example.body is not None:
        return f"printf {shlex.quote(example.body.decode().encode('unicode_escape').decode())} | " + shlex.join(
            [*words, "--data-binary", "@-", "-H", "Content-Type: application/octet-stream"]
        )
    return shlex.join(words)


def _conversation(target: str, example: examples.Example) -> str:
    first = ""
    if example.request is not None:
        first = f"    socket.send({msgspec.json.encode(example.request).decode()!r})\n"
    else:
        first = '    socket.send(b"exit\\n")\n'
    return (
        "from websockets.sync.client import unix_connect\n\n"
        f'with unix_connect("{SOCKET}", "ws://bhatti{target}") as socket:\n'
        f"{first}    for message in socket:\n        print(message)"
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _section(operation: Operation[object, object], document: Node) -> Iterator[str]:
    example = examples.of(operation)
    node = next(iter(document["paths"][shown_path(operation)].values()))
    if operation.method != "*":
        node = document["paths"][shown_path(operation)][operation.method.lower()]
    yield f"### {operation.name}\n"
    yield f"`{operation.method} {shown_path(operation)}`, {SCOPES[operation.scope]}.\n"
    yield operation.summary + "\n"
    if parameters := [p for p in node.get("parameters", ()) if p["in"] == "query"]:
        yield from _table(
            ("parameter", "type", ""),
            ((p["name"], shape(p["schema"]), _needed(p["required"], p["schema"])) for p in parameters),
        )
    if operation.keyed:
        yield f"Header `{IDEMPOTENCY_KEY}`: {openapi.KEY_PARAMETER['description']}\n"
    if operation.request is not None:
        yield f"Request: {_link(openapi.reference(operation.request))}.\n"
    yield _answer(operation) + "\n"
    codes = [cls.code for classes in openapi.errors_of(operation).values() for cls in classes]
    yield "Errors: " + ", ".join(f"`{code}`" for code in codes) + ".\n"
    language, text = call(operation)
    yield f"```{language}\n{text}\n```\n"
    if example.answer is not None:
        pretty = json.dumps(msgspec.to_builtins(example.answer), indent=2, ensure_ascii=False)
        yield f"```json\n{pretty}\n```\n"


def _answer(operation: Operation[object, object]) -> str:
    words = f"Answer: {operation.status}"
    if operation.result is not None:
        words += f", {_link(openapi.reference(operation.result))}"
    elif operation.media is not None:
        words += f", `{operation.media}`"
    elif operation.streams is Streams.DOWNLOAD:
        words += ", bytes"
    if operation.streams is Streams.EVENTS and operation.event is not None:
        words += f"; as a stream, {_link(openapi.reference(operation.event))} a line (`Accept: application/x-ndjson`)"
    return words + "."


def _link(name: str) -> str:
    bare = name.removeprefix("list of ")
    if bare == "object":
        return name
    return f"{'list of ' if bare != name else ''}[{bare}](#type-{anchor(bare)})"


def _type(name: str, schema: Node) -> Iterator[str]:
    yield f"### type {name}\n"
    if words := words_of(schema):
        yield words + "\n"
    if "enum" in schema:
        yield "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".\n"
        return
    rows = [(field, kind, _needed(required, inner)) for field, kind, required, inner in described_fields(schema)]
    if rows:
        yield from _table(("field", "type", ""), rows)


def _needed(required: bool, schema: Node) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return "" if default in (None, "", [], {}) else f"default `{json.dumps(default)}`"


def _table(headings: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|---|---|---|"
    for name, kind, more in rows:
        yield f"| `{name}` | {kind} | {more} |"
    yield ""
