"""The API as one HTML page that loads nothing from anywhere: no script, no font, no style but its own."""

import json
from collections.abc import Iterator
from html import escape

from bhatti.operations import manual
from bhatti.operations.openapi import Node, tag_of
from bhatti.operations.operation import Operation
from bhatti.operations.schemas import described_fields, shape, words_of
from bhatti.operations.table import ALL

STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f5f8;padding:.7rem 1rem;overflow-x:auto;
border-radius:6px}h1{font-size:1.7rem}h2{margin-top:2.5rem;border-bottom:1px solid #d8dee6}h3{margin:2rem 0 .3rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e4e9ef;
vertical-align:top}a{color:#0b5cad}.method{display:inline-block;min-width:4.2rem;font-weight:600}.note{color:#5b6776}
nav ul{list-style:none;padding-left:0;columns:2}@media(max-width:40rem){nav ul{columns:1}}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}pre{background:#1f262e}
td,th{border-color:#2c353f}h2{border-color:#36414d}a{color:#7db8f0}.note{color:#93a1b0}}"""


def html(document: Node) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>bhatti API</title><style>{STYLE}</style></head><body>",
        f"<h1>bhatti API</h1><p class=note>version {escape(info['version'])}, revision "
        f'{escape(info["x-api-revision"])}; for programs: <a href="/openapi.json">openapi.json</a></p>',
        f"<p>{_marked(info['description'])}</p>",
        *_contents(),
    ]
    for operation in ALL:
        parts += _section(operation, document)
    parts.append("<h2>Types</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += _type(name, schema)
    return "\n".join([*parts, "</body></html>", ""])


def _contents() -> Iterator[str]:
    groups: dict[str, list[Operation[object, object]]] = {}
    for operation in ALL:
        groups.setdefault(tag_of(operation), []).append(operation)
    yield "<nav>"
    for tag, operations in groups.items():
        yield f"<b>{escape(tag)}</b><ul>"
        for operation in operations:
            yield f'<li><a href="#{_anchor(operation.name)}">{escape(operation.name)}</a></li>'
        yield "</ul>"
    yield "</nav>"


def _section(operation: Operation[object, object], document: Node) -> Iterator[str]:
    path = manual.shown_path(operation)
    methods = document["paths"][path]
    node = methods["get"] if operation.method == "*" else methods[operation.method.lower()]
    yield f'<h2 id="{_anchor(operation.name)}">{escape(operation.name)}</h2>'
    yield f"<p><code><span class=method>{escape(operation.method)}</span> {escape(path)}</code></p>"
    yield f"<p>{_marked(operation.summary)}</p>"
    wakes = " It wakes a sandbox that sleeps." if operation.wakes else ""
    yield f"<p class=note>For: {operation.scope.value}.{wakes}</p>"
    if parameters := node.get("parameters"):
        rows = ((p["name"], shape(p["schema"]), f"in the {p['in']}", p["required"]) for p in parameters)
        yield from _table("Parameters", rows)
    if operation.request is not None:
        yield f"<p>Request: {_linked(shape(_request_schema(node)))}</p>"
    yield "<table><tr><th>status<th>what<th>body</tr>"
    for status, response in node["responses"].items():
        bodies = ", ".join(
            _linked(shape(c["schema"])) + f" <span class=note>{escape(m)}</span>"
            for m, c in response.get("content", {}).items()
        )
        yield f"<tr><td>{status}<td>{_marked(response['description'])}<td>{bodies}</tr>"
    yield "</table>"
    yield f"<pre>{escape(manual.call(operation)[1])}</pre>"
    yield from _answer(node)


def _request_schema(node: Node) -> Node:
    if "x-first-message" in node:
        first: Node = node["x-first-message"]
        return first
    schema: Node = node["requestBody"]["content"]["application/json"]["schema"]
    return schema


def _answer(node: Node) -> Iterator[str]:
    for response in node["responses"].values():
        for content in response.get("content", {}).values():
            if "example" in content:
                yield f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"


def _type(name: str, schema: Node) -> Iterator[str]:
    yield f'<h3 id="type-{_anchor(name)}">{escape(name)}</h3>'
    if words := words_of(schema):
        yield f"<p>{_marked(words)}</p>"
    if "enum" in schema:
        yield f"<p>{escape(shape(schema))}</p>"
    elif fields := list(described_fields(schema)):
        yield from _table("Fields", ((field, kind, "", required) for field, kind, required, _ in fields))


def _table(title: str, rows: Iterator[tuple[str, str, str, bool]]) -> Iterator[str]:
    yield f"<table><tr><th>{title}<th>type<th></tr>"
    for name, kind, more, required in rows:
        notes = ", ".join(filter(None, (more, "required" if required else "")))
        yield f"<tr><td><code>{escape(name)}</code><td>{_linked(kind)}<td class=note>{escape(notes)}</tr>"
    yield "</table>"


def _linked(kind: str) -> str:
    """Return words about a type, its own name a link to where it is described."""
    *before, last = kind.split(" ")
    if last[:1].isupper() and last.isalnum():
        return " ".join([*map(escape, before), f'<a href="#type-{_anchor(last)}">{escape(last)}</a>'])
    return _marked(kind)


def _marked(text: str) -> str:
    """Return text with what is between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _anchor(name: str) -> str:
    return escape(name.lower().replace(".", "-"), quote=True)
