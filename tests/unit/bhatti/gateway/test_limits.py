from bhatti.daemon.settings import Gateway
from bhatti.gateway.limits import Limits


def test_what_is_not_set_is_the_same_everywhere() -> None:
    limits, settings = Limits(), Gateway()
    assert (limits.max_waiting, limits.max_open) == (settings.max_waiting, settings.max_open)
    assert (limits.max_body_bytes, limits.wake_timeout_s) == (settings.max_body_mb << 20, settings.wake_timeout_s)
    assert (limits.idle_timeout_s, limits.trust_forwarded) == (settings.idle_timeout_s, False)
