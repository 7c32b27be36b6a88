import msgspec
import pytest
from tests.unit.bhatti.store.rows import record
from tests.unit.bhatti.store.test_users import ANNA

from bhatti.daemon import caps
from bhatti.errors import LimitExceeded
from bhatti.model.user import Caps
from bhatti.store.users import UserRecord

ONE, TWO = record("aaaa000000000001", "one"), record("aaaa000000000002", "two")


def anna(**given: int | None) -> UserRecord:
    return msgspec.structs.replace(ANNA, caps=Caps(**given))


@pytest.mark.parametrize("cap", Caps.__struct_fields__)
def test_up_to_the_cap_and_not_beyond(cap: str) -> None:
    user = anna(**{cap: 4})
    caps.check(user, cap, 0, 4)
    caps.check(user, cap, 3)
    with pytest.raises(LimitExceeded, match=f"user 'anna' may have 4 {caps.WORDS[cap][0]}: 3 taken, 2 more") as caught:
        caps.check(user, cap, 3, 2)
    assert caught.value.code == caps.WORDS[cap][1]
    option = cap.replace("_", "-")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("ask for 1 at most, or ")
    assert caught.value.hint.endswith(f"bhatti user update anna --{option} 5")


def test_without_a_cap_there_is_no_bound() -> None:
    caps.check(anna(max_images=None), "max_images", 10**9)


def test_what_is_taken_beyond_a_cap_that_was_lowered_leaves_nothing_to_ask_for() -> None:
    with pytest.raises(LimitExceeded) as caught:
        caps.check(anna(max_cpus=2), "max_cpus", 5)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("remove something first")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"max_sandboxes": 1}, "sandbox-limit"),
        ({"max_cpus": 1}, "cpu-limit"),
        ({"max_memory_mb": 1023}, "memory-limit"),
    ],
)
def test_a_sandbox_counts_beside_the_others(given: dict[str, int], code: str) -> None:
    caps.check_sandbox(anna(**given), ONE, [])
    with pytest.raises(LimitExceeded) as caught:
        caps.check_sandbox(anna(**given), TWO, [ONE])
    assert caught.value.code == code
