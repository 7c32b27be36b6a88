import msgspec
import pytest

from bhatti.operations.documents.system import Health


def test_health_has_three_words() -> None:
    assert msgspec.convert({"status": "starting", "sandboxes": 0, "uptime": 0.5}, Health).status == "starting"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"status": "well", "sandboxes": 0, "uptime": 0.5}, Health)
