"""The API's documents in the forms in which they are read: OpenAPI for programs, a page for browsers, Markdown."""

import functools
from typing import Literal

import msgspec

from bhatti.operations import manual, openapi, page

Form = Literal["json", "html", "markdown"]


@functools.cache
def rendered(version: str, form: Form) -> bytes:
    """Return the document of all operations in one of its forms."""
    document = openapi.document(version)
    match form:
        case "json":
            return msgspec.json.encode(document)
        case "html":
            return page.html(document).encode()
        case "markdown":
            return manual.markdown(document).encode()
