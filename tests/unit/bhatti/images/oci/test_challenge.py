import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.images.oci.challenge import Challenge, choose, parse_challenges

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'


def test_the_challenge_of_the_largest_registry_is_understood() -> None:
    assert parse_challenges([HUB]) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:a/b:pull,push",
            },
        )
    ]


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        ('Basic realm="x"', ["basic"]),
        ("BASIC", ["basic"]),
        ('Basic realm="a, Bearer realm=b"', ["basic"]),
        ('Negotiate, Basic realm="x", Bearer realm=token , service = "s"', ["negotiate", "basic", "bearer"]),
        ("", []),
        ('="x"', []),
    ],
)
def test_schemes_are_told_apart(header: str, schemes: list[str]) -> None:
    assert [challenge.scheme for challenge in parse_challenges([header])] == schemes


def test_quotes_and_escapes_are_undone_and_the_first_of_a_name_counts() -> None:
    (challenge,) = parse_challenges([r'Bearer Realm="a\"b\\c", realm="other", service=plain'])
    assert challenge.parameters == {"realm": r'a"b\c', "service": "plain"}


def test_a_token_is_better_than_a_password() -> None:
    both = parse_challenges(['Basic realm="x"', HUB])
    chosen = choose(both)
    assert chosen is not None
    assert chosen.scheme == "bearer"
    basic = choose(both[:1])
    assert basic is not None
    assert basic.scheme == "basic"


def test_a_challenge_that_nobody_can_meet_is_not_chosen() -> None:
    assert choose(parse_challenges(["Negotiate", "Bearer service=x"])) is None
    assert choose([]) is None


@given(st.text(max_size=100))
def test_any_header_is_parsed(header: str) -> None:
    for challenge in parse_challenges([header]):
        assert challenge.scheme == challenge.scheme.lower()
