from lohar.wire.limits import LIMITS, Limits


def test_the_frame_limit_is_the_protocols() -> None:
    assert LIMITS.frame_length == 1 << 20


def test_limits_cross_the_wire_whole() -> None:
    assert Limits.from_json(LIMITS.to_json()) == LIMITS
    assert set(LIMITS.to_object()) == set(Limits.__slots__), "all are sent, whatever their values"


def test_limits_leave_room_for_the_tested_loads() -> None:
    assert LIMITS.connections > 200
    assert LIMITS.sessions >= 50
    assert LIMITS.upload_bytes > 1 << 30
    assert LIMITS.ring_bytes <= LIMITS.max_ring_bytes
