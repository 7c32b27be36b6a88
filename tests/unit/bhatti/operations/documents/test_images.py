import msgspec
import pytest

from bhatti.operations.documents.images import ImageImport, ImagePull


@pytest.mark.parametrize(
    ("document", "request_type"),
    [
        (b"{}", ImageImport),
        (b'{"source": ""}', ImageImport),
        (b"{}", ImagePull),
        (b'{"reference": ""}', ImagePull),
    ],
)
def test_where_an_image_comes_from_has_to_be_said(
    document: bytes, request_type: type[ImageImport] | type[ImagePull]
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=request_type)
