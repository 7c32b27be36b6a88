import itertools

import pytest

from bhatti.errors import InvalidRequest
from bhatti.model.alias import ALIAS, RESERVED, checked_alias, proposals


@pytest.mark.parametrize("alias", ["a", "0", "my-page", "x" * 63, "3-d"])
def test_a_label_of_a_host_name_is_an_alias(alias: str) -> None:
    assert checked_alias(alias) == alias


@pytest.mark.parametrize(
    "alias", ["", "-a", "a-", "A", "a.b", "a_b", "a b", "a/b", "ä", "x" * 64, "a\n", "_acme-challenge", *RESERVED]
)
def test_anything_else_is_refused(alias: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_alias(alias)
    assert caught.value.code == "bad-alias"


@pytest.mark.parametrize(
    ("name", "first"),
    [("one", "one"), ("My_Agent.2", "my-agent-2"), ("www", "www-80"), ("x" * 63, "x" * 40), ("...", "sandbox")],
)
def test_a_sandbox_s_name_makes_aliases_without_end(name: str, first: str) -> None:
    proposed = list(itertools.islice(proposals(name, 80), 20))
    assert proposed[0] == first
    assert len(set(proposed)) == 20
    assert all(ALIAS.fullmatch(alias) and checked_alias(alias) for alias in proposed)
