import secrets

import pytest

from bhatti.errors import InvalidRequest
from bhatti.model.user import ADMIN, KEY_PATTERN, NOBODY, Caller, checked_user_name

ANNA = Caller(owner="usr_1", name="anna")


def test_each_sees_their_own_and_the_administrator_all() -> None:
    assert ANNA.may_see("usr_1")
    assert not ANNA.may_see("usr_2")
    assert not ANNA.may_see("")
    assert ADMIN.may_see("")
    assert ADMIN.may_see("usr_1")


def test_nobody_sees_nothing_not_even_what_is_the_administrator_s() -> None:
    assert not NOBODY.admin
    assert not NOBODY.may_see("")


@pytest.mark.parametrize("name", ["anna", "anna.b-2", "x" * 63])
def test_names_that_may_be(name: str) -> None:
    assert checked_user_name(name) == name


@pytest.mark.parametrize("name", ["", "admin", "usr_12345678", "-x", "a b", "a/b", "é", "x" * 64, "x" * 500, "a\n"])
def test_names_that_may_not_be(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_user_name(name)
    assert caught.value.code == "bad-name"
    assert len(caught.value.message) < 150


@pytest.mark.parametrize(
    "key", ["", "bht_", "bht_" + "x" * 42, "bht_" + "x" * 44, "BHT_" + "x" * 43, "bht_" + "é" * 43]
)
def test_what_is_no_key(key: str) -> None:
    assert not KEY_PATTERN.fullmatch(key)
    assert KEY_PATTERN.fullmatch(f"bht_{secrets.token_urlsafe(32)}")
