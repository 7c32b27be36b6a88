import msgspec
import pytest

from bhatti.operations.documents.publications import PublishRequest


@pytest.mark.parametrize("port", [0, -1, 65_536, "http", 1.5])
def test_a_port_is_a_port(port: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"port": port}), type=PublishRequest)
    assert PublishRequest(port=80).alias is None
