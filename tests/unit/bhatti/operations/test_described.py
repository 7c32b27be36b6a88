import msgspec

from bhatti.operations.described import rendered


def test_each_form_is_what_it_is_called() -> None:
    assert msgspec.json.decode(rendered("1.2.3", "json"))["info"]["version"] == "1.2.3"
    assert rendered("1.2.3", "html").startswith(b"<!doctype html>")
    assert rendered("1.2.3", "markdown").startswith(b"# ")


def test_a_document_is_made_once() -> None:
    assert rendered("1.2.3", "json") is rendered("1.2.3", "json")
