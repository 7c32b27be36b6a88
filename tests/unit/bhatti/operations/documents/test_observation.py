import msgspec
import pytest

from bhatti.operations.documents.observation import EventsQuery, LoggedEvent, NewsEvent


@pytest.mark.parametrize("given", [{"limit": 0}, {"limit": 1001}, {"since": -1}, {"sandbox": ""}, {"sinc": 1}])
def test_a_query_that_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, EventsQuery)


def test_a_line_of_the_stream_says_what_it_is() -> None:
    assert msgspec.json.decode(b'{"type":"missed","until":7}', type=NewsEvent).until == 7
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"rumour"}', type=NewsEvent)


def test_an_event_need_not_be_about_a_sandbox() -> None:
    event = msgspec.convert({"id": 1, "at": "2026-01-15T09:30:00Z", "kind": "image-built"}, LoggedEvent)
    assert event.sandbox is None
