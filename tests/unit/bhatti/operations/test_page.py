import re
from html.parser import HTMLParser

from bhatti.operations import openapi, page
from bhatti.operations.table import ALL

PAGE = page.html(openapi.document("1.2.3"))


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read() -> Reader:
    reader = Reader()
    reader.feed(PAGE)
    return reader


def test_every_operation_and_type_can_be_found() -> None:
    anchors = {attributes["id"] for _, attributes in read().tags if "id" in attributes}
    assert {operation.name.replace(".", "-") for operation in ALL} <= anchors
    linked = {(attributes.get("href") or "#")[1:] for tag, attributes in read().tags if tag == "a"}
    assert linked - {"openapi.json"} <= anchors


def test_it_loads_nothing_from_anywhere() -> None:
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not [tag for tag, attributes in read().tags if tag in loading or "src" in attributes]
    assert not re.search(r"url\(|@import", PAGE)
    assert all((a.get("href") or "#")[0] in "#/" for tag, a in read().tags if tag == "a")


def test_words_of_the_document_are_not_markup() -> None:
    document = openapi.document("<script>alert(1)</script>")
    assert "<script" not in page.html(document)
